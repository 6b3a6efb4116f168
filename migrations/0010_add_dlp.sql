-- +goose Up
-- DLP: sets of what must not leave (or come in), and the documents that they
-- know. Of a document only hashes are kept.

SELECT audit.maintenance('0010', 'sets of DLP rules and fingerprints of documents');

SET LOCAL ROLE mailward_owner;

CREATE TABLE dlp_set (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    name         text        NOT NULL CHECK (name <> ''),
    description  text        NOT NULL DEFAULT '',
    direction    text        NOT NULL CHECK (direction IN ('in', 'out', 'both')),
    enabled      boolean     NOT NULL,
    class        text        NOT NULL CHECK (class IN ('dlp', '')), -- '': a sign, which counts its score
    score        double precision NOT NULL CHECK (score BETWEEN 0 AND 100),
    rules        jsonb       NOT NULL CHECK (jsonb_typeof(rules) = 'object'), -- {all, detectors, keywords, patterns, similarity, ...}
    version      bigint      NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX dlp_set_name_idx ON dlp_set (workspace_id, lower(name));

CREATE TABLE dlp_fingerprint (
    id           uuid        PRIMARY KEY,
    set_id       uuid        NOT NULL REFERENCES dlp_set (id) ON DELETE CASCADE,
    workspace_id uuid        NOT NULL REFERENCES workspace (id),
    name         text        NOT NULL CHECK (name <> ''),
    sha256       text        NOT NULL DEFAULT '', -- of the file; '': only its text is known
    words        integer     NOT NULL,
    hashes       bigint[]    NOT NULL,            -- of runs of words; empty: only the file is known
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dlp_fingerprint_set_idx ON dlp_fingerprint (set_id, created_at);

-- What a workspace begins with. Invoices have IBANs, so it takes several; a
-- card number that stands beside the word card is one too many.
-- +goose StatementBegin
CREATE FUNCTION dlp_first_sets(workspace uuid) RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO dlp_set (id, workspace_id, name, description, direction, enabled, class, score, rules)
    SELECT guard.new_id(), workspace, s.* FROM (VALUES
        ('Payment cards', 'Card numbers with a known issuer and the right check digit: one that is surely a card, or five that look like it.', 'out', true, 'dlp', 5::double precision,
         '{"detectors": [{"detector": "card", "high": 1, "low": 5}]}'::jsonb),
        ('Bank accounts', 'Five or more different IBANs. An invoice has one or two.', 'out', true, 'dlp', 5,
         '{"detectors": [{"detector": "iban", "high": 5}]}'),
        ('German personal ids', 'Tax ids, social security numbers, numbers and machine readable lines of ID cards and passports: lists of people, not one''s own number.', 'out', true, 'dlp', 5,
         '{"detectors": [{"detector": "de.tax_id", "high": 3, "medium": 5}, {"detector": "de.social_security", "high": 3, "medium": 5}, {"detector": "de.id_card", "high": 3}, {"detector": "de.passport", "high": 3}, {"detector": "mrz", "high": 2}]}'),
        ('European personal ids', 'Personal numbers of Austria, the Netherlands, France, Italy, Spain and Poland.', 'out', false, 'dlp', 5,
         '{"detectors": [{"detector": "at.svnr", "high": 3}, {"detector": "nl.bsn", "high": 3}, {"detector": "fr.insee", "high": 3, "medium": 5}, {"detector": "it.codice_fiscale", "high": 3}, {"detector": "es.nif", "high": 3}, {"detector": "pl.pesel", "high": 3}]}'),
        ('Confidential markings', 'Words with which documents are marked that are not for others.', 'out', false, 'dlp', 5,
         '{"keywords": ["streng vertraulich", "streng geheim", "VS-NfD", "VS - nur für den Dienstgebrauch", "nur für den internen Gebrauch", "strictly confidential", "for internal use only", "TLP:RED", "TLP:AMBER+STRICT"]}')
    ) s
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION dlp_new_workspace() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM public.dlp_first_sets(NEW.id);
    RETURN NULL;
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION dlp_first_sets(uuid), dlp_new_workspace() FROM PUBLIC;

RESET ROLE;

GRANT EXECUTE ON FUNCTION guard.new_id() TO mailward_owner;

SET LOCAL ROLE mailward_owner;
SELECT dlp_first_sets(id) FROM workspace;
RESET ROLE;

CREATE TRIGGER mailward_dlp AFTER INSERT ON workspace FOR EACH ROW EXECUTE FUNCTION dlp_new_workspace();

SELECT guard.record_table('dlp_set', 'dlp.set', 'id,workspace_id,name,description,direction,enabled,class,score,rules,version', '', '', 'sec-3y', 'IUD'),
       guard.record_table('dlp_fingerprint', 'dlp.fingerprint', 'id,workspace_id,set_id,name,sha256,words', '', '', 'sec-3y', 'IUD');

CREATE TRIGGER mailward_notify AFTER INSERT OR UPDATE OR DELETE ON dlp_set FOR EACH STATEMENT EXECUTE FUNCTION guard.notify('mailward_dlp');

GRANT SELECT, INSERT, UPDATE, DELETE ON dlp_set TO mailward_app;
GRANT SELECT, INSERT, DELETE ON dlp_fingerprint TO mailward_app;

SELECT guard.seal();
