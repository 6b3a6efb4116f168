-- Whether an event waits for its number.
SELECT EXISTS (SELECT FROM audit.unsequenced);
