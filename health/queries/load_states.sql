SELECT component, state, since, last_good, detail, updated_at
FROM health_state
