-- Makes the partitions of the coming days.
SELECT guard.make_partitions();
