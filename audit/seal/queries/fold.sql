-- Makes up to $1 nodes of the tree.
SELECT audit.fold($1);
