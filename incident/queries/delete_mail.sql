-- Takes a mail out of an incident. $1 incident, $2 mail
DELETE FROM incident_mail WHERE incident_id = $1 AND mail_id = $2;
