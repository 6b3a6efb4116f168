-- +goose Up
-- Mail goes two ways: policies say what is done with outbound mail too, mails
-- and held mails know their direction, and a policy says what is made of the
-- sender's authentication.

SELECT audit.maintenance('0007', 'policies get settings for the authentication of senders, mails get a direction');

DROP TRIGGER mailward_record ON policy;
DROP TRIGGER mailward_no_truncate ON policy;

SET LOCAL ROLE mailward_owner;

ALTER TABLE policy ADD COLUMN auth jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(auth) = 'object'); -- {dmarc, trusted_arc_sealers}
ALTER TABLE mail ADD COLUMN direction text NOT NULL DEFAULT 'inbound' CHECK (direction IN ('inbound', 'outbound'));
ALTER TABLE quarantine_item ADD COLUMN direction text NOT NULL DEFAULT 'inbound' CHECK (direction IN ('inbound', 'outbound'));

INSERT INTO policy (id, workspace_id, domain, direction, actions) VALUES
    ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000001', '*', 'outbound',
     '{"clean": "deliver", "spam": "quarantine", "broken": "deliver", "encrypted": "deliver", "suspicious": "hold",
       "phishing": "quarantine", "malware": "quarantine", "dlp": "quarantine", "unscannable": "quarantine"}')
ON CONFLICT (workspace_id, domain, direction) DO NOTHING;

RESET ROLE;

SELECT guard.record_table('policy', 'policy', 'id,workspace_id,domain,direction,actions,auth,version', '', '', 'sec-3y', 'IUD');

SELECT guard.seal();
