// A digest from the mail at the next hop to the mail that its reader wanted: links
// as a scanner of links follows them, and as people do. See e2e/people_test.go.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { base, email, login, look, openBrowser, openPage, overflow, password, violations } from './browser.mjs'
import { arrived, arrives, expired, mail, readDigest, send } from './outside.mjs'

const open = []
let boss
let olga
let digests // those that came by the schedule, by recipient

async function person(who) {
  const browser = await openBrowser({ locale: 'en-GB' })
  open.push(browser)
  const page = await openPage(browser.context)
  if (who) {
    await look(browser.context, 'light')
    await login(page, password, who)
  }
  return page
}

before(async () => {
  boss = await person(email)
  olga = await person('olga@ours.example')
})
after(async () => {
  for (const browser of open) await browser.close()
})

/** The page behind a link is fine, in its language. */
async function fine(page, name, lang) {
  assert.equal(await page.getAttribute('html', 'lang'), lang)
  for (const [theme, width] of [['light', 390], ['dark', 1440]]) {
    await page.setViewportSize({ width, height: 900 })
    await page.evaluate((t) => { document.documentElement.dataset.theme = t }, theme)
    assert.deepEqual(await violations(page), [], `${name} ${theme} ${width}`)
    assert.ok(await overflow(page) <= 0, `${name} ${width} is too wide`)
  }
}

/** The HTML of a digest says what its text says, and can be read by everybody. */
async function sameInHTML(page, digest, lang) {
  await page.setContent(digest.html)
  assert.equal(await page.evaluate(() => document.documentElement.outerHTML.includes('<parsererror')), false)
  assert.equal(await page.getAttribute('html', 'lang'), lang)
  assert.deepEqual(await page.locator('a').evaluateAll((all) => all.map((a) => a.href)), digest.links)
  assert.equal(await page.locator('script, style, link, img, iframe, form').count(), 0)
  const words = (await page.locator('body').innerText()).replaceAll(/\s+/g, ' ')
  for (const line of digest.text.split('\r\n').filter((l) => l && !l.startsWith('--') && !/https?:/.test(l))) {
    for (const word of line.split(/[:()]/)) assert.ok(words.includes(word.trim()), `the HTML lacks ${JSON.stringify(word)}: ${words}`)
  }
  // A mail has no landmarks.
  assert.deepEqual((await violations(page)).filter((v) => !/^(region|landmark-one-main|page-has-heading-one) /.test(v)), [])
}

const stateOf = async (subject) => {
  await boss.goto(`${base}/quarantine?range=all&state=all&q=${encodeURIComponent(subject)}`)
  return boss.locator('[data-row]').first().innerText()
}

test('a digest that is due comes in German, as text and as HTML, and tells of no malware', async () => {
  await arrives('To: <bob@ours.example>', 60_000)
  await arrives('To: <carol@ours.example>', 60_000)
  const all = (await arrived('List-Id: <quarantine.')).map((m) => ({ ...readDigest(m), envelope: m.to }))
  digests = Object.fromEntries(all.map((d) => [d.envelope[0], d]))
  assert.deepEqual(all.map((d) => d.envelope.join()).sort(), ['bob@ours.example', 'carol@ours.example'])
  const bob = digests['bob@ours.example']
  assert.equal(bob.subject, 'Zurückgehaltene Mails für Sie: 2')
  assert.equal(bob.links.length, 2)
  assert.equal(new Set(bob.links).size, 2)
  assert.match(bob.text, /Offer & <b>more<\/b>: https\[:\]\/\/shop[\s\S]*Zustellen lassen: http/)
  assert.match(digests['carol@ours.example'].text, /\(Phishing\)[\s\S]*Freigabe erbitten: http/)
  const page = await person()
  for (const d of all) await sameInHTML(page, d, 'de')
})

test('a scanner that follows every link does nothing', async () => {
  for (const link of Object.values(digests).flatMap((d) => d.links)) {
    const head = await fetch(link, { method: 'HEAD' })
    assert.equal(head.status, 200)
    assert.match(head.headers.get('x-robots-tag'), /noindex/)
    assert.equal(head.headers.get('set-cookie'), null)
    const body = await (await fetch(link)).text()
    assert.doesNotMatch(body, /http-equiv="?refresh|onload|autosubmit/i)
    assert.equal((await boss.request.get(link)).status(), 200) // with somebody's cookies
  }
  for (const subject of ['Offer &', 'Second offer', 'Password of carol']) assert.match(await stateOf(subject), /Quarantined/)
  assert.equal((await arrived('X-Mailward-Release')).filter((m) => /bob|carol/.test(m.to)).length, 0)
})

test('a person has the mail delivered, once; nobody uses the link again', async () => {
  const { links } = digests['bob@ours.example']
  const page = await person()
  await page.goto(links[1])
  assert.match(await page.locator('dl').innerText(), /news@bulk\.example|erika@sender\.example/)
  assert.match(await page.locator('dl').innerText(), /bob@ours\.example/)
  await fine(page, 'link', 'de')
  await page.getByRole('button', { name: 'Mail an mich zustellen' }).click()
  await page.getByRole('heading', { name: 'Die Mail ist unterwegs.' }).waitFor()
  await fine(page, 'done', 'de')
  await page.goBack()
  await page.getByRole('heading', { name: 'Dieser Link gilt nicht mehr.' }).waitFor()
  assert.equal((await page.request.post(links[1])).status(), 410)
  const answer = await page.goto(links[1])
  assert.equal(answer.status(), 410)
  assert.equal(await page.locator('form[action^="/digest/"]').count(), 0)
  await fine(page, 'used', 'de')
  assert.deepEqual(page.problems, [])
})

test('two clicks at once ask once; a person agrees, and the mail arrives', async () => {
  const [link] = digests['carol@ours.example'].links
  const pages = [await person(), await person()]
  for (const page of pages) await page.goto(link)
  await Promise.all(pages.map((page) => page.getByRole('button', { name: 'Mail erbitten' }).click()))
  const said = []
  for (const page of pages) said.push(await page.getByRole('heading', { level: 2 }).innerText())
  assert.deepEqual(said.map((s) => /Sie haben um die Mail gebeten/.test(s)).sort(), [false, true], said.join())
  assert.match(await stateOf('Password of carol'), /Release requested/)
  await olga.goto(base + '/approvals')
  const card = olga.locator('.results .card', { hasText: 'Password of carol' })
  assert.match(await card.innerText(), /carol@ours\.example asks: wanted by the recipient, by the link of a digest/)
  await card.locator('[name=reason]').fill('carol knows the sender')
  await card.getByRole('button', { name: 'Approve' }).click()
  await olga.getByRole('status').filter({ hasText: 'Approved.' }).waitFor()
})

test('a link that was changed, and one whose time is over, say so and do nothing', async () => {
  const [link] = digests['bob@ours.example'].links
  const page = await person()
  const changed = link.slice(0, -4) + (link.endsWith('AAAA') ? 'BBBB' : 'AAAA')
  for (const bad of [changed, await expired(link)]) {
    assert.equal((await page.goto(bad)).status(), 410, bad)
    await page.getByRole('heading', { name: 'This link does not count any more.' }).waitFor()
    assert.equal((await page.request.post(bad)).status(), 410)
  }
  await fine(page, 'gone', 'en')
})

test('in English on demand, with its page; what was wanted has arrived, and is on record as the recipients’ wish', async () => {
  await send('news@bulk.example', email, mail('Third offer', 'Buy now.', { to: email }))
  await boss.goto(base + '/settings/digest')
  await boss.selectOption('[name=language]', 'en')
  await boss.fill('[name=reason]', 'the team speaks English')
  await boss.getByRole('button', { name: 'Save', exact: true }).click()
  await boss.getByRole('status').first().waitFor()
  await boss.getByRole('button', { name: 'Send me one now' }).click()
  const [got] = await arrives(`To: <${email}>\r\nSubject: Held`)
  const digest = readDigest(got)
  assert.equal(digest.subject, 'Held mail for you: 1')
  assert.match(digest.text, /Third offer[\s\S]*\(spam\)[\s\S]*Have it delivered: http/)
  const page = await person()
  await sameInHTML(page, digest, 'en')
  await page.goto(digest.links[0])
  await fine(page, 'link in English', 'en')
  await page.getByRole('button', { name: 'Deliver the mail to me' }).waitFor()

  for (const [to, text] of [['bob@ours.example', 'Subject: Offer & <b>'], ['carol@ours.example', 'Subject: Password of carol']]) {
    const mails = (await arrives(text)).filter((m) => m.raw.includes('X-Mailward-Release: '))
    assert.deepEqual(mails.map((m) => m.to), [[to]])
  }
  assert.equal((await arrived('Subject: Second offer')).length, 0)
  await boss.goto(base + '/audit?action=quarantine.release.*')
  const acts = await boss.locator('[data-row]').allInnerTexts()
  assert.equal(acts.filter((a) => /digest link, not logged in/.test(a)).length, 2, acts.join('\n'))
})
