-- Who has what in hand, of alerts that fire.
SELECT k.alert_id, k.episode FROM alert_ack k JOIN alert a ON a.id = k.alert_id AND a.episode = k.episode WHERE a.phase = 'firing';
