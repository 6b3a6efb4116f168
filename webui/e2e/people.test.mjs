// Two people of an installation that wants four eyes, in a real browser: who may
// do what, where, and what waits for the other one. See e2e/people_test.go.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { base, email, flaws, login, look, openBrowser, openPage, password, shots } from './browser.mjs'

let first
let second
before(async () => {
  first = await openBrowser()
  second = await openBrowser()
})
after(async () => {
  await first?.close()
  await second?.close()
})

async function withPage(from, fn) {
  const page = await openPage(from.context)
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

const looksGood = async (page, name) => assert.deepEqual(await flaws(page, name), [])

const saved = (page, words) => page.getByRole('status').filter({ hasText: words }).first().waitFor()

test('workspaces: made, renamed, chosen in the frame, archived', async () => {
  await withPage(first, async (page) => {
    await look(first.context, 'light')
    await login(page)
    await page.goto(base + '/workspaces')
    const form = page.locator('form[action="/workspaces"]')
    await form.locator('[name=name]').fill('Client')
    await form.locator('[name=reason]').fill('a new client')
    await form.getByRole('button', { name: 'Create' }).click()
    await saved(page, 'Saved.')
    const card = page.locator('[data-workspace]', { hasText: 'Client' })
    await card.locator('summary').click()
    await looksGood(page, 'workspaces')
    await card.locator('form[action$="/rename"] [name=name]').fill('Client Ltd')
    await card.locator('form[action$="/rename"] [name=reason]').fill('as registered')
    await card.getByRole('button', { name: 'Rename' }).click()
    await saved(page, 'Saved.')

    await page.goto(base + '/audit')
    assert.equal(await page.locator('.filters [name=workspace] option').count(), 3)
    await page.locator('td.space', { hasText: 'Client Ltd' }).first().waitFor()
    await looksGood(page, 'audit-spaces')
    await page.setViewportSize({ width: 1440, height: 900 })
    const chooser = page.locator('.side .space-chooser')
    await chooser.locator('select').selectOption({ label: 'Client Ltd' })
    await chooser.getByRole('button').click()
    await page.waitForURL(base + '/audit')
    assert.equal(await page.locator('.side .space-chooser select').evaluate((s) => s.selectedOptions[0].text), 'Client Ltd')
    assert.equal(await page.locator('.filters [name=workspace]').count(), 0)
    await page.goto(base + '/quarantine')
    await looksGood(page, 'quarantine-space')
    await page.setViewportSize({ width: 1440, height: 900 })
    await page.locator('.side .space-chooser select').selectOption('')
    const all = page.waitForResponse((r) => r.url() === base + '/quarantine' && r.status() === 200)
    await page.locator('.side .space-chooser').getByRole('button').click()
    await all

    await page.goto(base + '/workspaces')
    const renamed = page.locator('[data-workspace]', { hasText: 'Client Ltd' })
    await renamed.locator('summary').click()
    await renamed.locator('form[action$="/archive"] [name=reason]').fill('left us')
    await renamed.getByRole('button', { name: 'Archive' }).click()
    await saved(page, 'Saved.')
    await page.locator('[data-workspace] .dot', { hasText: 'Archived' }).waitFor()
  })
})

test('a role waits for a second person, who signs the decision with a passkey', async () => {
  await withPage(first, async (page) => {
    await page.goto(base + '/users')
    const form = page.locator('form[action="/users"][method=post]')
    await form.locator('[name=email]').fill('new@ours.example')
    await form.locator('[name=first]').fill('a first password of mine')
    await form.locator('[name=role]').selectOption('analyst')
    await form.locator('[name=reason]').fill('joins the SOC')
    await form.getByRole('button', { name: 'Create' }).click()
    await saved(page, 'second person')
    await looksGood(page, 'user')
    await page.goto(base + '/users')
    await looksGood(page, 'users')
    await page.goto(base + '/approvals')
    await page.getByText('Somebody else has to decide on this.').waitFor()
  })
  await withPage(second, async (page) => {
    await look(second.context, 'light')
    await page.goto(base + '/login')
    await page.fill('input[name=email]', process.env.SECOND_EMAIL)
    await page.fill('input[name=password]', password)
    await page.click('form[action="/login"] button')
    await page.waitForURL((u) => u.pathname !== '/login')
    const device = await second.context.newCDPSession(page)
    await device.send('WebAuthn.enable')
    await device.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })
    await page.goto(base + '/settings')
    await page.fill('#passkeys [name=name]', 'blue key')
    await page.getByRole('button', { name: 'Add a passkey' }).click()
    await page.locator('#passkeys .own-row', { hasText: 'blue key' }).or(page.locator('.codes')).first().waitFor()
    await page.goto(base + '/approvals')
    await page.getByText('You sign your decision with your passkey.').waitFor()
    await page.getByText('new@ours.example will get the role Analyst').waitFor()
    await looksGood(page, 'approvals')
    await page.locator('.results [name=reason]').fill('known to me')
    await page.getByRole('button', { name: 'Approve' }).click()
    await saved(page, 'Approved.')
    await page.goto(base + '/approvals?state=decided')
    await page.getByText('known to me').waitFor()
    await looksGood(page, 'approvals-decided')
  })
})

test('how long the record is kept takes two people, and a refusal is signed too', async () => {
  await withPage(first, async (page) => {
    await page.goto(base + '/audit/retention')
    const card = page.locator('[data-class="sec-400d"]')
    await card.locator('summary').click()
    await looksGood(page, 'retention')
    await card.locator('[name=days]').fill('500')
    await card.locator('[name=reason]').fill('the auditor asks')
    await card.getByRole('button', { name: 'Change', exact: true }).click()
    await saved(page, 'second person')
    assert.match(await card.locator('h2').innerText(), /400 days/)
  })
  await withPage(second, async (page) => {
    const device = await second.context.newCDPSession(page)
    await device.send('WebAuthn.enable')
    await device.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })
    await page.goto(base + '/settings')
    // The authenticator of before went with its page: this is another key.
    await page.fill('#passkeys [name=name]', 'red key')
    await page.getByRole('button', { name: 'Add a passkey' }).click()
    await page.locator('#passkeys .own-row', { hasText: 'red key' }).waitFor()
    await page.goto(base + '/approvals')
    await page.getByText('sec-400d will be kept for 500 days').waitFor()
    const asked = page.locator('.results .card', { hasText: 'sec-400d' })
    await asked.locator('[name=reason]').fill('not agreed with us')
    await asked.getByRole('button', { name: 'Refuse' }).click()
    await saved(page, 'Refused.')
  })
})

test('API tokens: made with a scope, shown once, changed, revoked', async () => {
  await withPage(first, async (page) => {
    await page.goto(base + '/settings')
    await page.locator('#tokens > details > summary').click()
    await looksGood(page, 'tokens-form')
    await page.fill('#tokens [name=name]', 'nightly report')
    await page.locator('#tokens [name=role]').selectOption('viewer')
    await page.getByLabel('view_meta').check()
    await page.getByRole('button', { name: 'Create token' }).click()
    const secret = await page.locator('[data-secret]').innerText()
    assert.match(secret, /^mw_[0-9a-f]{64}$/)
    await looksGood(page, 'token')
    const ask = async (token) => (await page.request.get(base + '/api/v1/quarantine', { headers: { Authorization: 'Bearer ' + token, Cookie: '' } })).status()
    assert.equal(await ask(secret), 200)
    await page.goto(base + '/settings')
    assert.doesNotMatch(await page.content(), new RegExp(secret))
    const row = page.locator('[data-token]', { hasText: 'nightly report' })
    assert.match(await row.innerText(), new RegExp(`owner ${email}`))
    await looksGood(page, 'tokens')
    await row.locator('[name=grace]').selectOption('0')
    await row.getByRole('button', { name: /New secret/ }).click()
    const next = await page.locator('[data-secret]').innerText()
    assert.equal(await ask(secret), 401)
    assert.equal(await ask(next), 200)
    await page.goto(base + '/settings')
    await row.locator('.sure > summary').click()
    await row.getByText('Programs that use it are refused at once').waitFor()
    await looksGood(page, 'token-revoke')
    await row.getByRole('button', { name: /Revoke/ }).click()
    await saved(page, 'The token was revoked.')
    assert.match(await row.innerText(), /Revoked/)
    assert.equal(await ask(next), 401)
  })
})
