-- +goose Up
-- The leaves become one Merkle tree (RFC 6962), whose head is signed (C2SP
-- checkpoints) and sent outside. Private keys are never here.

SELECT audit.maintenance('0022', 'the audit is sealed: nodes of the tree, checkpoints, keys, origins, anchors');

SET LOCAL ROLE mailward_owner;

-- Inner nodes of complete subtrees of 256, 65,536, ... leaves: what a root or a
-- proof needs is read from here and from at most 255 leaves.
CREATE TABLE audit.node (
    level smallint NOT NULL CHECK (level IN (8, 16, 24, 32)),
    idx   bigint   NOT NULL CHECK (idx >= 0),
    hash  bytea    NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, idx)
);

-- Names that checkpoints were signed under. A restore from a backup opens a new
-- one (mailward audit reanchor), which names the old head.
CREATE TABLE audit.origin (
    number    integer     PRIMARY KEY CHECK (number > 0),
    name      text        NOT NULL UNIQUE CHECK (name <> ''),
    old_note  text        NOT NULL DEFAULT '', -- last checkpoint under the name before
    reason    text        NOT NULL DEFAULT '',
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Public keys. Which key signed which checkpoint stands in the notes.
CREATE TABLE audit.seal_key (
    id        text        PRIMARY KEY, -- first 8 bytes of its SHA-256, in hex
    algorithm text        NOT NULL CHECK (algorithm IN ('ed25519')),
    public    bytea       NOT NULL CHECK (octet_length(public) = 32),
    added_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE audit.checkpoint (
    origin    text        NOT NULL REFERENCES audit.origin (name),
    size      bigint      NOT NULL CHECK (size >= 0),
    root      bytea       NOT NULL CHECK (octet_length(root) = 32),
    note      text        NOT NULL,             -- as it was signed
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (origin, size)
);
CREATE INDEX checkpoint_signed_idx ON audit.checkpoint (signed_at DESC);

-- One row for each try to leave a checkpoint with somebody else.
CREATE TABLE audit.anchor (
    id      uuid        PRIMARY KEY,
    origin  text        NOT NULL,
    size    bigint      NOT NULL,
    name    text        NOT NULL,                -- of the anchor in the configuration
    kind    text        NOT NULL CHECK (kind IN ('tsa', 'email', 'webhook', 'bucket')),
    target  text        NOT NULL,                -- where to, without secrets
    ok      boolean     NOT NULL,
    receipt bytea       NOT NULL DEFAULT '',     -- what the other side answered
    detail  text        NOT NULL DEFAULT '',
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (origin, size) REFERENCES audit.checkpoint (origin, size)
);
CREATE INDEX anchor_name_idx ON audit.anchor (name, at DESC);

GRANT SELECT ON audit.node, audit.origin, audit.seal_key, audit.checkpoint, audit.anchor TO mailward_app, mailward_guard;

-- Makes up to p_max nodes whose leaves are complete. It computes them itself:
-- nobody can put a node in. Returns how many it made; -1 while another is at it.
-- +goose StatementBegin
CREATE FUNCTION audit.fold(p_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE lvl smallint := 8; nxt bigint; h bytea[]; made integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7238191, 6) THEN RETURN -1; END IF;
    WHILE lvl <= 32 LOOP
        SELECT coalesce(max(n.idx) + 1, 0) INTO nxt FROM audit.node n WHERE n.level = lvl;
        WHILE made < p_max LOOP
            IF lvl = 8 THEN
                h := ARRAY(SELECT l.leaf_hash FROM audit.leaf l WHERE l.seq >= nxt * 256 AND l.seq < (nxt + 1) * 256 ORDER BY l.seq);
            ELSE
                h := ARRAY(SELECT n.hash FROM audit.node n WHERE n.level = lvl - 8 AND n.idx >= nxt * 256 AND n.idx < (nxt + 1) * 256 ORDER BY n.idx);
            END IF;
            EXIT WHEN coalesce(array_length(h, 1), 0) < 256;
            WHILE array_length(h, 1) > 1 LOOP
                h := ARRAY(SELECT sha256('\x01'::bytea || h[2 * i - 1] || h[2 * i]) FROM generate_series(1, array_length(h, 1) / 2) i ORDER BY i);
            END LOOP;
            INSERT INTO audit.node (level, idx, hash) VALUES (lvl, nxt, h[1]);
            nxt := nxt + 1;
            made := made + 1;
        END LOOP;
        lvl := (lvl + 8)::smallint;
    END LOOP;
    RETURN made;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.add_checkpoint(p_origin text, p_size bigint, p_root bytea, p_note text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_size > (SELECT coalesce(max(l.seq), -1) + 1 FROM audit.leaf l) THEN
        RAISE EXCEPTION 'audit.add_checkpoint: the tree has fewer leaves than %', p_size USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.checkpoint (origin, size, root, note) VALUES (p_origin, p_size, p_root, p_note) ON CONFLICT (origin, size) DO NOTHING;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.add_seal_key(p_id text, p_algorithm text, p_public bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_id IS DISTINCT FROM encode(substr(sha256(p_public), 1, 8), 'hex') THEN
        RAISE EXCEPTION 'audit.add_seal_key: the id is not that of the key' USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.seal_key (id, algorithm, public) VALUES (p_id, p_algorithm, p_public) ON CONFLICT (id) DO NOTHING;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.add_origin(p_number integer, p_name text, p_old_note text, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A restored database may not know of all origins before.
    IF p_number <= (SELECT coalesce(max(o.number), 0) FROM audit.origin o) THEN
        RAISE EXCEPTION 'audit.add_origin: % is no new number', p_number USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.origin (number, name, old_note, reason) VALUES (p_number, p_name, p_old_note, p_reason);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.add_anchor(p_id uuid, p_origin text, p_size bigint, p_name text, p_kind text, p_target text, p_ok boolean, p_receipt bytea, p_detail text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.anchor (id, origin, size, name, kind, target, ok, receipt, detail)
    VALUES (p_id, p_origin, p_size, p_name, p_kind, p_target, p_ok, p_receipt, p_detail) ON CONFLICT (id) DO NOTHING;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION audit.fold(integer), audit.add_checkpoint(text, bigint, bytea, text), audit.add_seal_key(text, text, bytea),
    audit.add_origin(integer, text, text, text), audit.add_anchor(uuid, text, bigint, text, text, text, boolean, bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.fold(integer), audit.add_checkpoint(text, bigint, bytea, text), audit.add_seal_key(text, text, bytea),
    audit.add_origin(integer, text, text, text), audit.add_anchor(uuid, text, bigint, text, text, text, boolean, bytea, text) TO mailward_app;

RESET ROLE;

SELECT guard.protect('audit.node', 'audit.fold(integer)'),
       guard.protect('audit.checkpoint', 'audit.add_checkpoint(text,bigint,bytea,text)'),
       guard.protect('audit.seal_key', 'audit.add_seal_key(text,text,bytea)'),
       guard.protect('audit.origin', 'audit.add_origin(integer,text,text,text)'),
       guard.protect('audit.anchor', 'audit.add_anchor(uuid,text,bigint,text,text,text,boolean,bytea,text)');

SELECT guard.seal();
