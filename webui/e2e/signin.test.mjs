// Signing in, in a real browser: every way, and what a person can do about their
// own account. See the Go test that starts it: e2e/signin_test.go.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createHmac } from 'node:crypto'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { base, email, flaws, login, look, openBrowser, openPage, password, shots } from './browser.mjs'

let browser
let context
before(async () => {
  browser = await openBrowser()
  context = browser.context
  await look(context, 'light')
})
after(() => browser?.close())

async function withPage(fn, from = context) {
  const page = await openPage(from)
  try {
    await fn(page)
    assert.deepEqual(page.problems, [], 'errors in the console')
  } catch (err) {
    if (shots) await page.screenshot({ path: join(shots, 'failed.png') }).catch(() => {})
    throw err
  } finally {
    await page.close()
  }
}

/** A code of RFC 6238. */
function code(secret, shift = 0) {
  const bits = [...secret.replaceAll(' ', '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('')
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)))
  const step = Buffer.alloc(8)
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000) + shift))
  const mac = createHmac('sha1', key).update(step).digest()
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1e6).padStart(6, '0')
}

async function fillPassword(page, who = email, secret = password) {
  await page.goto(base + '/login')
  await page.fill('input[name=email]', who)
  await page.fill('input[name=password]', secret)
  await page.click('form[action="/login"] button')
}

const signOut = async (page) => {
  await page.locator('.side form[action="/logout"] button').click()
  await page.waitForURL(/\/login/)
}

const looksGood = async (page, name) => assert.deepEqual(await flaws(page, name), [])

test('a wrong password, again and again, locks this address out of that account', async () => {
  await withPage(async (page) => {
    for (let i = 0; i < 5; i++) {
      await fillPassword(page, 'nobody@ours.example', 'not the password')
      assert.match(await page.getByRole('alert').innerText(), /is not right/)
    }
    await fillPassword(page, 'nobody@ours.example', 'not the password')
    assert.match(await page.getByRole('alert').innerText(), /Too many attempts/)
    await looksGood(page, 'login')
  })
})

let secret
test('codes of an app: set up, asked for, and never taken twice', async () => {
  await withPage(async (page) => {
    await login(page)
    await page.goto(base + '/settings')
    await looksGood(page, 'settings')
    await page.getByRole('button', { name: 'Set up an app' }).click()
    await page.locator('svg.qr path').waitFor()
    await looksGood(page, 'totp')
    secret = await page.locator('[data-secret]').innerText()
    await page.fill('[name=code]', '000000')
    await page.getByRole('button', { name: 'Confirm', exact: true }).click()
    assert.match(await page.locator('#wrong-code').innerText(), /not right/)
    const used = code(secret)
    await page.fill('[name=code]', used)
    await page.getByRole('button', { name: 'Confirm', exact: true }).click()
    await page.locator('.codes').waitFor()
    const recovery = await page.locator('.codes li').allInnerTexts()
    assert.equal(recovery.length, 10)
    await looksGood(page, 'recovery')
    await page.getByRole('link', { name: 'I have kept them' }).click()
    await signOut(page)

    await fillPassword(page)
    await page.waitForURL(/\/login\/second/)
    await looksGood(page, 'second')
    await page.fill('[name=code]', used)
    await page.getByRole('button', { name: 'Sign in', exact: true }).click()
    assert.match(await page.locator('#wrong-code').innerText(), /used already/)
    await page.goto(base + '/quarantine')
    assert.match(page.url(), /\/login\?/, 'half a sign-in opened a page')
    await fillPassword(page)
    await page.fill('[name=code]', code(secret, 1))
    await page.getByRole('button', { name: 'Sign in', exact: true }).click()
    await page.waitForURL((u) => !u.pathname.startsWith('/login'))
    await signOut(page)
    await fillPassword(page)
    await page.fill('[name=code]', recovery[0])
    await page.getByRole('button', { name: 'Sign in', exact: true }).click()
    await page.waitForURL((u) => !u.pathname.startsWith('/login'))
    await page.goto(base + '/settings')
    await page.getByText('9 of 10 are left').waitFor()
  })
})

test('a passkey: added, used to sign in, and to sign a release and exports', async () => {
  await withPage(async (page) => {
    const device = await context.newCDPSession(page)
    await device.send('WebAuthn.enable')
    await device.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })
    await page.goto(base + '/settings')
    await page.fill('#passkeys [name=name]', 'blue key')
    await page.getByRole('button', { name: 'Add a passkey' }).click()
    await page.locator('#passkeys .own-row', { hasText: 'blue key' }).waitFor()
    await looksGood(page, 'settings-full')
    await signOut(page)

    await page.getByRole('button', { name: 'Sign in with a passkey' }).click()
    await page.waitForURL((u) => !u.pathname.startsWith('/login'))
    await page.goto(base + '/settings')
    await page.locator('#sessions .own-row', { hasText: 'Passkey' }).first().waitFor()

    await page.goto(base + '/confirm?next=%2Fsettings')
    await looksGood(page, 'confirm')
    await page.getByRole('button', { name: 'Confirm with a passkey' }).click()
    await page.waitForURL(base + '/settings')

    await page.goto(base + '/quarantine?range=all&q=Invoice')
    await page.locator('[data-row] a[data-open]').first().click()
    const id = await page.locator('#drawer [data-item]').getAttribute('data-item')
    await page.goto(`${base}/quarantine/${id}?act=release`)
    await page.locator('#release textarea').fill('confirmed by phone')
    await page.getByText('You sign this release with your passkey.').waitFor()
    await page.locator('#release button.primary').click()
    await page.getByRole('status').filter({ hasText: /release/i }).first().waitFor()

    await page.goto(`${base}/quarantine/${id}?act=export`)
    await page.locator('#export').getByText('You sign this with your passkey.').waitFor()
    await looksGood(page, 'export-signed')
    await page.locator('#export [name=case]').fill('INC-2026-0777')
    await page.locator('#export [name=title]').fill('Signed')
    await page.locator('#export [name=purpose]').fill('report')
    await page.locator('#export textarea').fill('needed for the report')
    await page.locator('#export button.primary').click()
    await page.waitForURL(/\/evidence\/[0-9a-f-]{36}$/)

    await page.goto(`${base}/quarantine/${id}?act=raw`)
    await page.locator('#raw').getByText('You sign this with your passkey.').waitFor()
    await page.locator('#raw textarea').fill('looked at by hand')
    const [mail] = await Promise.all([page.waitForEvent('download'), page.locator('#raw button.primary').click()])
    assert.match(mail.suggestedFilename(), /\.zip$/)

    await page.goto(base + '/audit/retention')
    const change = page.locator('details.acts', { has: page.locator('form[action="/audit/retention"]') }).first()
    await change.locator('summary').click()
    await change.getByText('You sign this with your passkey.').waitFor()
    await change.locator('[name=days]').fill('3000')
    await change.locator('[name=reason]').fill('longer, for the auditors')
    await change.locator('button').click()
    await page.getByRole('status').first().waitFor()

    // The page stays, so a second file is signed anew.
    await page.goto(base + '/audit/exports?action=evidence.*')
    await page.getByText('You sign the export with your passkey.').waitFor()
    await looksGood(page, 'audit-export-signed')
    for (let n = 0; n < 2; n++) {
      const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()])
      assert.match(file.suggestedFilename(), /\.csv$/)
      assert.match(readFileSync(await file.path(), 'utf8'), /evidence\.export\.execute/)
    }
  })
})

test('single sign-on: in with a role of a group, and out at the provider too', async () => {
  const other = await openBrowser()
  try {
    await withPage(async (page) => {
      await page.goto(base + '/quarantine?class=malware')
      await page.getByRole('link', { name: 'Sign in with Example Corp' }).click()
      await page.fill('input[name=username]', 'anna')
      await page.fill('input[name=password]', 'pw')
      await page.click('button[type=submit]')
      await page.waitForURL(/\/quarantine\?class=malware/)
      assert.match(await page.locator('.side .me').innerText(), /Anna Analyst/)
      await page.goto(base + '/settings')
      await page.locator('#sessions .own-row', { hasText: 'Sign in with corp' }).waitFor()
      await page.getByText('Linked with corp').waitFor()
      await page.locator('.side form[action="/logout"] button').click()
      // By way of the provider, back to where one signs in.
      await page.waitForURL(base + '/login')
      await page.goto(base + '/quarantine')
      assert.match(page.url(), /\/login\?/)
      // Whom no group of ours knows is kept out, and told so.
      await page.getByRole('link', { name: 'Sign in with Example Corp' }).click()
      await page.fill('input[name=username]', 'otto')
      await page.fill('input[name=password]', 'pw')
      await page.click('button[type=submit]')
      assert.match(await page.getByRole('alert').innerText(), /no role/)
    }, other.context)
  } finally {
    await other.close()
  }
})

test('sessions: another one is seen and ended', async () => {
  const other = await openBrowser()
  try {
    const elsewhere = await openPage(other.context)
    await fillPassword(elsewhere)
    // The recovery code of before is spent; the app's step may be, too: wait for the next.
    for (let i = 0; i < 40 && elsewhere.url().includes('/second'); i++) {
      await elsewhere.fill('[name=code]', code(secret, 1))
      await elsewhere.getByRole('button', { name: 'Sign in', exact: true }).click()
      await elsewhere.waitForLoadState()
      if (elsewhere.url().includes('/second')) await elsewhere.waitForTimeout(15_000)
    }
    await withPage(async (page) => {
      await page.goto(base + '/settings')
      const row = page.locator('#sessions .own-row', { hasText: 'Password and code' }).first()
      await row.getByRole('button', { name: 'End' }).click()
      await page.getByText('The session was ended.').waitFor()
    })
    await elsewhere.goto(base + '/quarantine')
    assert.match(elsewhere.url(), /\/login/)
  } finally {
    await other.close()
  }
})
