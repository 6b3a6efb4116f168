-- Removes the policies of a group. $1 group
DELETE FROM policy WHERE group_id = $1;
