-- How many people a release needs.
SELECT value #>> '{}' FROM setting WHERE key = 'four_eyes';
