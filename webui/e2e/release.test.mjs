// A release from the first word to the next hop's reply, by two people in two
// browsers, at an installation that wants four eyes. See e2e/people_test.go.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { base, email, login, look, openBrowser, openPage, overflow, password, violations } from './browser.mjs'
import { arrived, arrives, askForPassword, eicar, mail, send, wantReleased } from './outside.mjs'

const virus = mail('Statement 42', eicar, { to: 'dora@ours.example' })
const people = {}

/** A person at a browser of their own, logged in. */
async function arrive(name, who) {
  const browser = await openBrowser()
  people[name] = { browser } // closed whatever happens below
  await look(browser.context, 'light')
  const page = await openPage(browser.context)
  await login(page, password, who)
  people[name].page = page
  return page
}

before(async () => {
  await send('mallory@sender.example', 'dora@ours.example', virus)
  await send('mallory@sender.example', 'dora@ours.example', mail('Mailbox full', askForPassword, { to: 'dora@ours.example', type: 'text/html' }))
  await arrive('ana', 'ana@ours.example')
  await arrive('boss', email)
  const otto = await arrive('otto', 'otto@ours.example')
  const device = await people.otto.browser.context.newCDPSession(otto)
  await device.send('WebAuthn.enable')
  await device.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })
  await otto.goto(base + '/settings')
  await otto.fill('#passkeys [name=name]', 'green key')
  await otto.getByRole('button', { name: 'Add a passkey' }).click()
  await otto.locator('#passkeys .own-row', { hasText: 'green key' }).or(otto.locator('.codes')).first().waitFor()
})
after(async () => {
  for (const p of Object.values(people)) await p.browser.close()
})

const state = (page) => page.locator('.rcpts tr', { hasText: 'dora@ours.example' })
const flash = (page, words) => page.getByRole('status').filter({ hasText: words }).first().waitFor()

async function fine(page, name) {
  for (const width of [390, 1440]) {
    await page.setViewportSize({ width, height: 900 })
    assert.deepEqual(await violations(page), [], `${name} ${width}`)
    assert.ok(await overflow(page) <= 0, `${name} ${width} is too wide`)
  }
}

/** Opens the mail as a page, by search; returns its id. */
async function open(page, subject) {
  await page.goto(`${base}/quarantine?range=all&q=${encodeURIComponent(subject)}`)
  await page.locator('[data-row] a[data-open]').first().click()
  await page.getByRole('link', { name: 'Open as a page' }).click()
  await page.getByRole('heading', { level: 1, name: subject }).waitFor()
  return new URL(page.url()).pathname.split('/').at(-1)
}

async function ask(page, reason) {
  await page.locator('[data-act=release]').click()
  const dialog = page.locator('dialog#release')
  await dialog.getByRole('button', { name: 'Request release' }).click()
  assert.ok(await dialog.isVisible(), 'asked for without a reason')
  await dialog.locator('textarea[name=reason]').fill(reason)
  await dialog.locator('select[name=code]').selectOption('false_positive')
  await dialog.getByRole('button', { name: 'Request release' }).click()
  await flash(page, 'A second person has to agree')
  assert.match(await state(page).innerText(), /Release requested/)
}

/** The request for a mail in a person's inbox. */
async function inbox(page, subject) {
  await page.goto(base + '/approvals')
  const card = page.locator('.results .card', { hasText: subject })
  await card.waitFor()
  return card
}

const requestOf = async (card) => /approvals\/([0-9a-f-]{36})/.exec(await card.locator('form').getAttribute('action'))[1]

/** What the server answers when somebody sends the form that the page does not show. */
const approveByHand = (page, request) => page.evaluate(async (id) =>
  (await fetch(`/approvals/${id}/approve`, { method: 'POST', body: new URLSearchParams({ reason: 'my own word' }), redirect: 'manual' })).status, request)

async function approve(page, subject, reason) {
  const card = await inbox(page, subject)
  await card.locator('[name=reason]').fill(reason)
  await card.getByRole('button', { name: 'Approve' }).click()
  await flash(page, 'Approved.')
}

test('malware is asked for by one, approved by another, and taken back in time: nothing goes out', async () => {
  const { ana, otto } = { ana: people.ana.page, otto: people.otto.page }
  const item = await open(ana, 'Statement 42')
  await ask(ana, 'the sender was called: a test of theirs')
  const mine = await inbox(ana, 'Statement 42')
  await mine.getByText('Somebody else has to decide on this.').waitFor()
  assert.equal(await mine.locator('form').count(), 0)

  const card = await inbox(otto, 'Statement 42')
  const words = await card.innerText()
  assert.match(words, /dora@ours\.example[\s\S]*ana@ours\.example asks: the sender was called: a test of theirs/)
  assert.match(words, /You sign your decision with your passkey/)
  assert.equal(await card.getByRole('link', { name: 'See the mail' }).getAttribute('href'), `/quarantine/${item}`)
  await fine(otto, 'inbox')
  assert.equal(await approveByHand(ana, await requestOf(card)), 404, 'who asked has approved')
  assert.equal(await approveByHand(otto, await requestOf(card)), 422, 'approved without a signature')
  await approve(otto, 'Statement 42', 'I have called them too')

  await ana.goto(`${base}/quarantine/${item}`)
  assert.match(await state(ana).innerText(), /Release scheduled/)
  assert.ok(Number(await ana.locator('[data-countdown]').innerText()) <= 10)
  await ana.getByRole('button', { name: 'Take back' }).click()
  await flash(ana, 'The release is taken back. Nothing went out.')
  assert.match(await state(ana).innerText(), /Quarantined/)
  assert.equal(await ana.locator('[data-act=cancel]').count(), 0)
  assert.equal((await arrived('Statement 42')).length, 0)

  // What goes out is what is asked for now: the next test sees it arrive.
  await ask(ana, 'it is to go out after all')
  await approve(otto, 'Statement 42', 'still agreed')
  await ana.goto(`${base}/quarantine/${item}`)
  await fine(ana, 'countdown')
})

test('a request is refused: not by who asked, though with the right to', async () => {
  const { boss, otto } = { boss: people.boss.page, otto: people.otto.page }
  const item = await open(boss, 'Mailbox full')
  await ask(boss, 'dora wants it')
  const mine = await inbox(boss, 'Mailbox full')
  await mine.getByText('Somebody else has to decide on this.').waitFor()
  assert.equal(await mine.locator('form').count(), 0)
  const card = await inbox(otto, 'Mailbox full')
  assert.equal(await approveByHand(boss, await requestOf(card)), 409, 'who asked has approved')
  await card.locator('[name=reason]').fill('it asks for a password')
  await card.getByRole('button', { name: 'Refuse' }).click()
  await flash(otto, 'Refused.')
  await boss.goto(`${base}/quarantine/${item}?tab=history`)
  assert.match(await state(boss).innerText(), /Denied/)
  assert.match(await boss.locator('.acts').innerText(), /otto@ours\.example refused the release[\s\S]*it asks for a password[\s\S]*asked for the release[\s\S]*dora wants it/)
  await boss.goto(base + '/approvals?state=decided')
  const decided = boss.locator('.results .card', { hasText: 'Mailbox full' })
  assert.match(await decided.innerText(), /Refused otto@ours\.example it asks for a password/)
  assert.equal((await arrived('Mailbox full')).length, 0)
})

test('it arrives once, to the byte, with the mark; the page and the record say who and how', async () => {
  const boss = people.boss.page
  const [got] = await arrives('Statement 42')
  assert.deepEqual(got.to, ['dora@ours.example'])
  wantReleased(got, virus)
  const item = await open(boss, 'Statement 42')
  for (const end = Date.now() + 20_000; !(await state(boss).innerText()).includes('Released'); await boss.reload()) assert.ok(Date.now() < end, 'it did not become released')
  assert.match(await state(boss).innerText(), /250 .*\n?.*127\.0\.0\.1/)
  await boss.goto(`${base}/quarantine/${item}?tab=history`)
  await fine(boss, 'history')
  const acts = await boss.locator('.acts').innerText()
  // The newest first.
  assert.match(acts, new RegExp(['noted the result of the delivery 250 ', 'otto@ours\\.example agreed to the release[\\s\\S]*still agreed', 'ana@ours\\.example asked for the release[\\s\\S]*after all',
    'ana@ours\\.example took the release back', 'otto@ours\\.example agreed to the release[\\s\\S]*I have called them too', 'ana@ours\\.example asked for the release[\\s\\S]*the sender was called', 'held the mail'].join('[\\s\\S]*')))
  assert.doesNotMatch(acts, /quarantine\.|release\./, 'an act has no words')
  await boss.goto(`${base}/audit?target=${item}&action=quarantine.release.approve`)
  assert.equal(await boss.locator('[data-row]').count(), 2)
  await boss.locator('[data-row] a[data-open]').first().click()
  assert.match(await boss.locator('.expand').innerText(), /otto@ours\.example[\s\S]*approver/)
  assert.equal((await arrived('Statement 42')).length, 1)
  for (const p of Object.values(people)) assert.deepEqual(p.page.problems, [])
})
