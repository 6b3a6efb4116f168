-- Has whoever shares out a reaction's limit wait for each other. $1 reaction
SELECT FROM alert_reaction WHERE id = $1 FOR NO KEY UPDATE;
