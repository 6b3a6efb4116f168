-- How long each class is kept, and on what basis.
SELECT class, keep::text, year_end, legal_basis FROM audit_retention ORDER BY class;
