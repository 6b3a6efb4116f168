-- $1 name of a destination that can be reached
DELETE FROM delivery_destination WHERE name = $1;
