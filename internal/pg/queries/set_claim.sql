-- Names the actor and the context of this transaction, for the row triggers.
-- $1 claim, $2 context, both JSON. Both are gone when the transaction ends.
SELECT set_config('mailward.claim', $1, true), set_config('mailward.context', $2, true);
