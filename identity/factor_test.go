package identity

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/descope/virtualwebauthn"
	"github.com/google/uuid"

	"github.com/pquerna/otp/totp"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// boundSealer is a sealer whose secrets open only in their place.
type boundSealer struct{}

func (boundSealer) Wrap(_ context.Context, plain, aad []byte) ([]byte, error) {
	b := append(append([]byte{}, aad...), 0)
	for _, c := range plain {
		b = append(b, c^0x5a)
	}
	return b, nil
}

func (boundSealer) Unwrap(_ context.Context, sealed, aad []byte) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(sealed), string(aad)+"\x00")
	if !ok {
		return nil, errors.New("sealed for another place")
	}
	out := []byte(rest)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out, nil
}

const site = "https://mailward.ours.example"

func newFullStore(t *testing.T, change func(*Options)) (*Store, *testenv.DB, *clock) {
	t.Helper()
	db := testenv.Postgres(t)
	c := &clock{at: time.Now()}
	log := audit.New(db.DB, audit.Options{Observer: audit.Observer{Node: "test"}})
	opt := Options{Now: c.now, Memory: 64, Rounds: 1, Sealer: boundSealer{}, PublicURL: site, SpoolDir: filepath.Join(t.TempDir(), "logins"), Metrics: prometheus.NewRegistry()}
	if change != nil {
		change(&opt)
	}
	s, err := New(db.DB, log, opt)
	if err != nil {
		t.Fatal(err)
	}
	firstAdmin(t, s)
	return s, db, c
}

func signIn(t *testing.T, s *Store) (string, Principal) {
	t.Helper()
	token, p, err := s.Login(context.Background(), "erika@ours.example", password, from, "")
	if err != nil {
		t.Fatal(err)
	}
	return token, p
}

func enrolTOTP(t *testing.T, s *Store, c *clock, p Principal) (secret string, codes []string) {
	t.Helper()
	ctx := context.Background()
	key, err := s.BeginTOTP(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.PendingTOTP(ctx, p)
	if err != nil || again.Secret() != key.Secret() || !strings.Contains(again.String(), "erika@ours.example") {
		t.Fatalf("pending: %v, %v", again, err)
	}
	if _, err := s.ConfirmTOTP(ctx, p, "000000"); !errors.Is(err, ErrBadCredentials) {
		t.Fatalf("a made-up code: %v", err)
	}
	if codes, err = s.ConfirmTOTP(ctx, p, codeAt(t, key.Secret(), c.now())); err != nil || len(codes) != recoveryCodes {
		t.Fatalf("%d codes, %v", len(codes), err)
	}
	return key.Secret(), codes
}

func codeAt(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestTOTP_SecondFactorAndReplay(t *testing.T) {
	t.Parallel()
	s, db, c := newFullStore(t, nil)
	ctx := context.Background()
	_, p := signIn(t, s)
	secret, codes := enrolTOTP(t, s, c, p)
	var clear int
	if err := db.Admin(t).QueryRow(ctx, "SELECT count(*) FROM totp WHERE position(convert_to($1, 'UTF8') IN sealed) > 0", secret).Scan(&clear); err != nil || clear != 0 {
		t.Errorf("the secret lies in the database in the clear: %v", err)
	}

	var second *SecondFactorError
	login := func() string {
		t.Helper()
		if _, _, err := s.Login(ctx, "erika@ours.example", password, from, ""); !errors.As(err, &second) || !second.Factors.TOTP {
			t.Fatalf("password alone: %v", err)
		}
		return second.Step
	}
	step := login()
	// The step of the enrolment was taken already.
	if _, _, err := s.FinishLogin(ctx, step, codeAt(t, secret, c.now()), from, ""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a code used twice: %v", err)
	}
	if got := count(t, s, audit.MFAFailed, "failure"); len(got) != 1 {
		t.Errorf("%d failures on record", len(got))
	}
	c.add(30 * time.Second)
	code := codeAt(t, secret, c.now())
	cookie, who, err := s.FinishLogin(ctx, step, code, from, "")
	if err != nil || !who.MFA || who.Method != "password+totp" {
		t.Fatalf("%+v, %v", who, err)
	}
	if _, _, err := s.FinishLogin(ctx, step, codeAt(t, secret, c.now().Add(30*time.Second)), from, ""); !errors.Is(err, ErrStep) {
		t.Errorf("a step ended twice: %v", err)
	}
	if got, err := s.Session(ctx, cookie); err != nil || !got.MFA || got.Method != "password+totp" {
		t.Errorf("session: %+v, %v", got, err)
	}
	f := count(t, s, audit.Login, "success")[0].Fields()["auth"].(map[string]any)
	if f["method"] != "password+totp" || f["mfa"] != true || f["provider"] != "local" {
		t.Errorf("on record: %v", f)
	}

	// A recovery code works once.
	if _, who, err = s.FinishLogin(ctx, login(), strings.ToUpper(codes[3]), from, ""); err != nil || who.Method != "password+recovery" {
		t.Fatalf("recovery code: %v", err)
	}
	if _, _, err = s.FinishLogin(ctx, login(), codes[3], from, ""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("recovery code again: %v", err)
	}
	if n := len(count(t, s, audit.RecoveryCode, "")); n != 1 {
		t.Errorf("%d recovery codes on record", n)
	}
	fresh, err := s.RecoveryCodes(ctx, who)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = s.FinishLogin(ctx, login(), codes[4], from, ""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("an earlier code after new ones were made: %v", err)
	}
	if _, _, err = s.FinishLogin(ctx, login(), fresh[0], from, ""); err != nil {
		t.Errorf("a new code: %v", err)
	}
	c.add(time.Hour)
	if err := s.RemoveTOTP(ctx, who); !errors.Is(err, ErrStepUp) {
		t.Errorf("removal an hour later: %v", err)
	}
	who.AuthenticatedAt = c.now()
	if err := s.RemoveTOTP(ctx, who); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Factors(ctx, who.User.ID); err != nil || f != (Factors{}) {
		t.Errorf("left: %+v, %v", f, err)
	}
	for _, action := range []string{"totp.create", "totp.update", "totp.delete"} {
		rows := count(t, s, action, "")
		if len(rows) == 0 || strings.Contains(string(rows[0].Bytes), secret) {
			t.Errorf("%s: %d on record", action, len(rows))
		}
	}
}

func TestSecondFactor_Required(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, func(o *Options) {
		o.Policy = Policy{RequireSecondFactor: true, Grace: 48 * time.Hour, Life: 1000 * time.Hour, Idle: 1000 * time.Hour}
	})
	ctx := context.Background()
	cookie, p := signIn(t, s)
	if p.MustEnrol || p.EnrolBy.IsZero() || !p.Can(ViewMeta, DefaultWorkspace) {
		t.Fatalf("within the grace: %+v", p)
	}
	c.add(49 * time.Hour)
	p, err := s.Session(ctx, cookie)
	if err != nil || !p.MustEnrol || p.Can(ViewMeta, uuid.Nil) || p.Can(AuditRead, uuid.Nil) {
		t.Fatalf("after the grace: %v, %v", p.RoleNames(), err)
	}
	p.AuthenticatedAt = c.now()
	enrolTOTP(t, s, c, p)
	if p, err = s.Session(ctx, cookie); err != nil || p.MustEnrol || !p.Can(ViewMeta, DefaultWorkspace) {
		t.Errorf("after enrolment: %+v, %v", p, err)
	}
}

// key is an authenticator in this process, with one passkey.
type key struct {
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	cred virtualwebauthn.Credential
}

func (k *key) answer(t *testing.T, options any) []byte {
	t.Helper()
	b, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	o, err := virtualwebauthn.ParseAssertionOptions(string(b))
	if err != nil {
		t.Fatal(err)
	}
	k.cred.Counter++
	return []byte(virtualwebauthn.CreateAssertionResponse(k.rp, k.auth, k.cred, *o))
}

func enrolPasskey(t *testing.T, s *Store, p Principal) *key {
	t.Helper()
	ctx := context.Background()
	options, step, err := s.BeginPasskeyAdd(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	k := &key{rp: virtualwebauthn.RelyingParty{Name: "Mailward", ID: "mailward.ours.example", Origin: site}, cred: virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)}
	k.auth = virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: p.User.ID[:]})
	o, err := virtualwebauthn.ParseAttestationOptions(string(b))
	if err != nil {
		t.Fatal(err)
	}
	answer := []byte(virtualwebauthn.CreateAttestationResponse(k.rp, k.auth, k.cred, *o))
	if _, err := s.AddPasskey(ctx, p, step, "blue key", answer); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddPasskey(ctx, p, step, "again", answer); !errors.Is(err, ErrStep) {
		t.Errorf("one ceremony for two passkeys: %v", err)
	}
	k.auth.AddCredential(k.cred)
	return k
}

// wantSigned checks a signature as somebody does who has only the record.
func wantSigned(t *testing.T, f map[string]any, person uuid.UUID) {
	t.Helper()
	if err := VerifySigned(f, person.String()); err != nil {
		t.Errorf("checked from the record alone: %v", err)
	}
	if err := VerifySigned(f, uuid.NewString()); !errors.Is(err, ErrPasskey) {
		t.Errorf("as another person's act: %v", err)
	}
	for _, name := range []string{"signature", "public_key", "client_data", "act"} {
		part := maps.Clone(f)
		delete(part, name)
		if VerifySigned(part, person.String()) == nil {
			t.Errorf("it passes without its %s", name)
		}
	}
}

func TestPasskey_LoginAndSignedAct(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, nil)
	ctx := context.Background()
	_, p := signIn(t, s)
	k := enrolPasskey(t, s, p)

	options, step, err := s.BeginPasskeyLogin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	answer := k.answer(t, options)
	_, who, err := s.PasskeyLogin(ctx, step, answer, from, "")
	if err != nil || who.User.ID != p.User.ID || !who.MFA || who.Method != "passkey" {
		t.Fatalf("%+v, %v", who, err)
	}
	if _, _, err := s.PasskeyLogin(ctx, step, answer, from, ""); !errors.Is(err, ErrStep) {
		t.Errorf("one ceremony for two logins: %v", err)
	}
	if _, step, err = s.BeginPasskeyLogin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PasskeyLogin(ctx, step, answer, from, ""); !errors.Is(err, ErrPasskey) {
		t.Errorf("an old answer: %v", err)
	}
	if len(count(t, s, audit.LoginFailed, "failure")) != 1 {
		t.Error("the failure is not on record")
	}
	// A passkey is a second factor: the password alone opens nothing now.
	var second *SecondFactorError
	if _, _, err := s.Login(ctx, "erika@ours.example", password, from, ""); !errors.As(err, &second) {
		t.Errorf("password alone: %v", err)
	}

	act := Act{Path: "/quarantine/1/release", Fields: map[string][]string{"reason": {"by phone"}, "recipient": {"a@ours.example", "b@ours.example"}}}
	sign := func(asked, done Act) (*audit.Attestation, error) {
		options, step, err := s.BeginAct(ctx, who, asked)
		if err != nil {
			t.Fatal(err)
		}
		return s.SignAct(ctx, who, step, done, k.answer(t, options))
	}
	a, err := sign(act, act)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyAttestation(*a); err != nil {
		t.Errorf("verified without the server: %v", err)
	}
	forged := *a
	forged.Act = strings.Replace(a.Act, "b@ours", "c@ours", 1)
	if err := VerifyAttestation(forged); !errors.Is(err, ErrPasskey) {
		t.Errorf("another act under the same signature: %v", err)
	}
	other := Act{Path: act.Path, Fields: map[string][]string{"reason": {"by phone"}, "recipient": {"eve@ours.example"}}}
	if _, err := sign(act, other); !errors.Is(err, ErrPasskey) {
		t.Errorf("signed one act and sent another: %v", err)
	}
	// What was signed stands in the event, and only in those of acts that people sign.
	signed := audit.WithAttestation(ctx, a)
	for _, action := range []string{audit.ReleaseExecute, audit.ReleaseApprove, audit.PageView} {
		if err := s.record.Record(signed, audit.Event{Action: action, Actor: who.Actor()}); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := count(t, s, audit.ReleaseExecute, "")[0].Fields()["attestation"].(map[string]any)
	if f["by"] != "passkey" || f["act"] != a.Act || f["signature"] == "" {
		t.Errorf("on record: %v", f)
	}
	wantSigned(t, f, p.User.ID)
	if f := count(t, s, audit.PageView, "")[0].Fields()["attestation"]; f != nil {
		t.Errorf("a page view is attested: %v", f)
	}
	if err := s.record.Record(ctx, audit.Event{Action: audit.ReleaseDeny, Actor: who.Actor()}); err != nil {
		t.Fatal(err)
	}
	if f := count(t, s, audit.ReleaseDeny, "")[0].Fields()["attestation"].(map[string]any); f["by"] != "server" {
		t.Errorf("without a signature: %v", f)
	}

	// A counter that goes back is a copy of the key.
	k.cred.Counter = 0
	options, step, err = s.BeginPasskeyLogin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PasskeyLogin(ctx, step, k.answer(t, options), from, ""); !errors.Is(err, ErrPasskey) {
		t.Errorf("a copied passkey: %v", err)
	}
	keys, err := s.Passkeys(ctx, who.User.ID)
	if err != nil || len(keys) != 1 || keys[0].Name != "blue key" || keys[0].LastUsedAt == nil {
		t.Fatalf("%+v, %v", keys, err)
	}
	who.AuthenticatedAt = c.now()
	if err := s.RemovePasskey(ctx, who, keys[0].ID); err != nil {
		t.Fatal(err)
	}
	if len(count(t, s, "passkey.create", "")) != 1 || len(count(t, s, "passkey.delete", "")) != 1 {
		t.Error("making and removing are not on record")
	}
	if _, _, err := s.BeginAct(ctx, who, act); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a passkey: %v", err)
	}
}

func TestLockout_OwnerGetsInFromWhereTheyWere(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, nil)
	ctx := context.Background()
	signIn(t, s)
	// A wide attack: each address tries a few times.
	for i := range perAccount - 1 { // the owner's own counts too
		addr := netip.AddrFrom4([4]byte{198, 51, byte(i / perPair), 9})
		if _, _, err := s.Login(ctx, "erika@ours.example", "wrong", addr, ""); !errors.Is(err, ErrBadCredentials) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	var throttled *ThrottledError
	if _, _, err := s.Login(ctx, "erika@ours.example", password, netip.MustParseAddr("203.0.113.5"), ""); !errors.As(err, &throttled) {
		t.Errorf("from an address that was never seen: %v", err)
	}
	locked := count(t, s, audit.Lockout, "")
	if len(locked) != 1 || locked[0].Fields()["outcome"].(map[string]any)["code"] != "locked_account" {
		t.Errorf("%d lock-outs on record", len(locked))
	}
	signIn(t, s) // from where its owner was before
	s.throttle.now = func() time.Time { return c.now().Add(throttleWindow + time.Second) }
	if _, _, err := s.Login(ctx, "erika@ours.example", password, netip.MustParseAddr("203.0.113.5"), ""); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

func TestSessions_ListedAndRevoked(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, func(o *Options) { o.Policy = Policy{Idle: time.Hour, Life: 2 * time.Hour} })
	ctx := context.Background()
	first, _ := signIn(t, s)
	second, p := signIn(t, s)
	list, err := s.Sessions(ctx, p.User.ID)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d sessions, %v", len(list), err)
	}
	bob, err := s.CreateUser(ctx, pg.Operator("root"), NewUser{Email: "bob@ours.example", Password: password, Roles: []Role{Viewer}})
	if err != nil {
		t.Fatal(err)
	}
	_, bobs, err := s.Login(ctx, bob.Email, password, from, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeSession(ctx, bobs, bob.ID, p.SessionID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another person's session as one's own: %v", err)
	}
	if err := s.RevokeOthers(ctx, p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, first); !errors.Is(err, ErrNoSession) {
		t.Errorf("revoked: %v", err)
	}
	if err := s.RevokeSession(ctx, p, bob.ID, bobs.SessionID); err != nil {
		t.Fatal(err)
	}
	rows := count(t, s, audit.SessionRevoke, "")
	if len(rows) != 2 || rows[0].Fields()["reason"].(map[string]any)["code"] != "admin" {
		t.Errorf("%d on record", len(rows))
	}
	c.add(50 * time.Minute)
	if _, err := s.Session(ctx, second); err != nil {
		t.Errorf("used again in time: %v", err)
	}
	c.add(50 * time.Minute)
	if _, err := s.Session(ctx, second); err != nil {
		t.Errorf("used again in time: %v", err)
	}
	c.add(30 * time.Minute)
	if _, err := s.Session(ctx, second); !errors.Is(err, ErrNoSession) {
		t.Errorf("beyond its life: %v", err)
	}
}

func TestReset_OneTimePasswordMustBeChanged(t *testing.T) {
	t.Parallel()
	s, _, c := newFullStore(t, nil)
	ctx := context.Background()
	cookie, p := signIn(t, s)
	enrolTOTP(t, s, c, p)
	once, err := s.ResetPassword(ctx, pg.Operator("root"), nil, p.User.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, cookie); !errors.Is(err, ErrNoSession) {
		t.Errorf("session after a reset: %v", err)
	}
	if err := s.ResetFactors(ctx, pg.Operator("root"), nil, p.User.ID); err != nil {
		t.Fatal(err)
	}
	_, p, err = s.Login(ctx, "erika@ours.example", once, from, "")
	if err != nil || !p.User.MustChangePassword || p.Can(ViewMeta, uuid.Nil) {
		t.Fatalf("%+v, %v", p, err)
	}
	if len(count(t, s, audit.PasswordReset, "")) != 1 || len(count(t, s, audit.MFAChange, "")) != 2 {
		t.Error("the resets are not on record")
	}
}

func TestPassword_Rules(t *testing.T) {
	t.Parallel()
	for _, weak := range []string{"short", "password1234", "PASSWORD!!!!!!!!", "qwertyuiopas", "iloveyou20261234", "monkeymonkeymonkey", "Erika2026!!!", "mustermann2026", "Mailward-2026", "admin@mailward", "abcabcabcabcabc", strings.Repeat("long", 200)} {
		if err := checkPassword(weak, "erika@ours.example", "Erika Mustermann"); !errors.Is(err, ErrWeakPassword) {
			t.Errorf("%q was taken: %v", weak, err)
		}
	}
	for _, good := range []string{password, "another good password", "aaaaaaaaaaab", "übermäßig lang", "erika likes 14 blue whales", "x7-Kq9_mPz2w"} {
		if err := checkPassword(good, "erika@ours.example", "Erika Mustermann"); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	// One keyboard sends a letter with its accent as one character, another as two, and a wide one is no stronger.
	h, ctx := newHasher(64, 1), context.Background()
	composed, apart := "\u00fcberm\u00e4\u00dfig lang", "u\u0308berma\u0308\u00dfig lang"
	sum, err := h.hash(ctx, apart)
	if ok, err2 := h.matches(ctx, composed, sum); err != nil || err2 != nil || !ok {
		t.Errorf("the same password from another keyboard: %v %v %v", ok, err, err2)
	}
	before, err := argon2id.CreateHash(apart, h.params)
	if ok, err2 := h.matches(ctx, apart, before); err != nil || err2 != nil || !ok {
		t.Errorf("a password that was set as it was typed: %v %v %v", ok, err, err2)
	}
	if err := checkPassword("ｐａｓｓｗｏｒｄ１２３４", "", ""); !errors.Is(err, ErrWeakPassword) {
		t.Errorf("a weak password in wide letters was taken: %v", err)
	}
	if n := len(common()); n < 20000 {
		t.Errorf("the list has %d words", n)
	}
}
