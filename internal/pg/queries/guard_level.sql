-- How well the audit is guarded, and whether traces of attempts can be left.
SELECT level, guard.trace_works() FROM guard.level;
