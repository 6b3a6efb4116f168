-- +goose Up
-- Second factors, passkeys, recovery codes and single sign-on; and a session says
-- by which way its person came in, which every event of it repeats.

SELECT audit.maintenance('0028', 'second factors, passkeys, recovery codes and single sign-on');

DROP TRIGGER mailward_record ON user_account;
DROP TRIGGER mailward_no_truncate ON user_account;

SET LOCAL ROLE mailward_owner;

ALTER TABLE user_account
    ADD COLUMN break_glass       boolean NOT NULL DEFAULT false, -- for emergencies: its use is alarmed
    ADD COLUMN second_factor_due timestamptz;                    -- by when a second factor has to be there

-- An account at a provider. Its key is the issuer and the subject there, never an
-- address, which can change hands (OpenID Connect Core §5.7).
CREATE TABLE external_identity (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES user_account (id),
    provider     text        NOT NULL CHECK (provider <> ''), -- its name in the configuration
    issuer       text        NOT NULL CHECK (issuer <> ''),
    subject      text        NOT NULL CHECK (subject <> '' AND length(subject) <= 512),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    UNIQUE (issuer, subject)
);
CREATE INDEX external_identity_user_idx ON external_identity (user_id);

-- A secret of RFC 6238, encrypted with the key of the host. It counts once a code
-- of it was shown. A time step is never taken twice (§5.2).
CREATE TABLE totp (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL UNIQUE REFERENCES user_account (id),
    sealed       bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    last_step    bigint      NOT NULL DEFAULT 0
);

-- Only hashes of random codes; each works once.
CREATE TABLE recovery_code (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES user_account (id),
    code_hash  bytea       NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at    timestamptz
);
CREATE INDEX recovery_code_user_idx ON recovery_code (user_id);

-- A credential record of WebAuthn §4. Nothing in it is secret.
CREATE TABLE passkey (
    id            uuid        PRIMARY KEY,
    user_id       uuid        NOT NULL REFERENCES user_account (id),
    credential_id bytea       NOT NULL UNIQUE,
    record        jsonb       NOT NULL,
    name          text        NOT NULL CHECK (name <> '' AND length(name) <= 100),
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz
);
CREATE INDEX passkey_user_idx ON passkey (user_id);

-- A sign-in or a ceremony that is half done. It is taken out by whoever ends it,
-- so that nothing is ended twice. The browser holds the token, we its SHA-256.
CREATE TABLE sign_in_step (
    token_hash bytea       PRIMARY KEY,
    kind       text        NOT NULL,
    user_id    uuid        REFERENCES user_account (id),
    session_id uuid,
    data       jsonb       NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_step_expiry_idx ON sign_in_step (expires_at);

-- Logout tokens that were seen already, by the hash of issuer and jti.
CREATE TABLE logout_token (
    id_hash    bytea       PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

ALTER TABLE session
    ADD COLUMN provider       text    NOT NULL DEFAULT 'local', -- whose word for the person was taken
    ADD COLUMN protocol       text    NOT NULL DEFAULT '',      -- oidc; empty: ours
    ADD COLUMN issuer         text    NOT NULL DEFAULT '',
    ADD COLUMN subject        text    NOT NULL DEFAULT '',      -- at the issuer
    ADD COLUMN idp_session    text    NOT NULL DEFAULT '',      -- sid: the session at the issuer
    ADD COLUMN id_token       bytea,                            -- encrypted; a hint for the logout there
    ADD COLUMN mfa            boolean NOT NULL DEFAULT false,
    ADD COLUMN previous_hash  bytea,                            -- of the cookie before it was changed
    ADD COLUMN rotated_at     timestamptz,
    ADD COLUMN ended_by       text    NOT NULL DEFAULT '';      -- logout, person, admin, provider, password
CREATE INDEX session_previous_idx ON session (previous_hash) WHERE previous_hash IS NOT NULL;
CREATE INDEX session_issuer_idx ON session (issuer, subject) WHERE issuer <> '' AND ended_at IS NULL;

RESET ROLE;
SET LOCAL ROLE mailward_guard;

-- The person behind a session or a token, and how they showed who they are.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION guard.person(c jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE u record;
BEGIN
    IF c ->> 'session' IS NOT NULL THEN
        SELECT a.id, a.email, a.name, s.auth_method AS method, s.provider, nullif(s.protocol, '') AS protocol, nullif(s.issuer, '') AS issuer, s.mfa,
               s.id::text AS session_id, NULL::text AS token_id,
               (SELECT coalesce(jsonb_agg(DISTINCT g.role), '[]') FROM public.role_grant g WHERE g.user_id = a.id) AS roles INTO u
        FROM public.session s JOIN public.user_account a ON a.id = s.user_id WHERE s.id::text = lower(c ->> 'session');
    ELSE
        SELECT a.id, a.email, a.name, 'token'::text AS method, 'local'::text AS provider, NULL::text AS protocol, NULL::text AS issuer, NULL::boolean AS mfa,
               NULL::text AS session_id, t.id::text AS token_id,
               jsonb_build_array(t.role) AS roles INTO u
        FROM public.api_token t JOIN public.user_account a ON a.id = t.owner_id WHERE t.id::text = lower(c ->> 'token');
    END IF;
    IF u.id IS NULL THEN RETURN NULL; END IF;
    RETURN jsonb_build_object('email', u.email, 'actor', jsonb_build_object('type', 'user', 'id', u.id, 'display', u.name, 'roles', u.roles),
        'auth', jsonb_build_object('method', u.method, 'provider', u.provider, 'protocol', u.protocol, 'issuer', u.issuer, 'mfa', u.mfa,
            'session_id', u.session_id, 'credential_id', u.token_id));
END $$;
-- +goose StatementEnd

RESET ROLE;

SELECT guard.record_table('user_account', 'user', 'id,state,must_change_password,break_glass,created_by', 'password_hash', 'email,name', 'sec-3y', 'IUD'),
       guard.record_table('external_identity', 'external_identity', 'id,user_id,provider,issuer', '', 'subject', 'sec-3y', 'IUD'),
       guard.record_table('totp', 'totp', 'id,user_id,confirmed_at', 'sealed', '', 'sec-3y', 'IUD'),
       guard.record_table('recovery_code', 'recovery_code', 'id,user_id,used_at', '', '', 'sec-3y', 'UD'),
       guard.record_table('passkey', 'passkey', 'id,user_id,credential_id,name', '', '', 'sec-3y', 'IUD');

GRANT SELECT, INSERT, UPDATE ON external_identity, recovery_code TO mailward_app;
GRANT DELETE ON recovery_code TO mailward_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON totp, passkey TO mailward_app;
GRANT SELECT, INSERT, DELETE ON sign_in_step, logout_token TO mailward_app;

SELECT guard.seal();
