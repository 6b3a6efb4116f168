-- Switches a file on again. $1 file
DELETE FROM yara_file_off WHERE space = $1;
