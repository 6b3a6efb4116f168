SELECT engine, node, tried_at, detected, answered, detail, proven_at FROM detection_proof
