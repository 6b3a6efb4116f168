// The pages in a real browser, over a real gateway that has taken some mails.
// See the Go test that starts it: e2e/browser_test.go.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { base, email, filter, flaws, login, look, openBrowser, overflow, password, shots, violations, withPage as withPageOf } from './browser.mjs'

let browser
let context
before(async () => {
  browser = await openBrowser()
  context = browser.context
})
after(() => browser?.close())

const withPage = (fn, options) => withPageOf(context, fn, options)

const drawer = (page) => page.locator('#drawer .drawer')
const row = (page, subject) => page.locator('[data-row]', { hasText: subject })

async function openItem(page, subject) {
  await page.goto(`${base}/quarantine?range=all&q=${encodeURIComponent(subject)}`)
  await row(page, subject).first().locator('a[data-open]').click()
  await drawer(page).waitFor()
  return page.locator('#drawer [data-item]').getAttribute('data-item')
}

test('login: refused in one way, then let in to where one wanted to go', async () => {
  await look(context, 'light')
  await withPage(async (page) => {
    const words = []
    for (const who of ['nobody@ours.example', email]) {
      await page.goto(base + '/login')
      await page.fill('input[name=email]', who)
      await page.fill('input[name=password]', 'not the password')
      await page.click('form[action="/login"] button')
      words.push(await page.getByRole('alert').innerText())
    }
    assert.equal(words[0], words[1])
    await page.goto(base + '/quarantine?class=malware')
    assert.match(page.url(), /\/login\?next=/)
    await page.fill('input[name=email]', email)
    await page.fill('input[name=password]', password)
    await page.click('form[action="/login"] button')
    await page.waitForURL(/\/quarantine\?class=malware/)
    const cookie = (await context.cookies()).find((c) => c.name.endsWith('mailward_session'))
    assert.ok(cookie?.httpOnly, 'the session cookie is not for scripts')
  })
})

test('every page: no accessibility violation, no overflow, no error, in both themes, wide and narrow', async () => {
  let item, mail
  await withPage(async (page) => {
    item = await openItem(page, 'Invoice 4711')
    await page.goto(base + '/messages?range=all&q=Quarterly')
    mail = await row(page, 'Quarterly report').first().locator('a[data-open]').getAttribute('href')
  })
  const states = [
    ['dashboard', '/'],
    ['quarantine', '/quarantine'],
    ['quarantine-empty', '/quarantine?q=zzzz'],
    ['quarantine-drawer', `/quarantine?id=${item}`],
    ['item', `/quarantine/${item}`],
    ['item-parts', `/quarantine/${item}?tab=parts`],
    ['item-history', `/quarantine/${item}?tab=history`],
    ['item-release', `/quarantine/${item}?act=release`],
    ['messages', '/messages'],
    ['queue', '/queue'],
    ['queue-all', '/queue?state=all'],
    ['rules', '/yara'],
    ['rules-new', '/yara/new', async (page) => {
      await page.fill('[name=source]', 'rule a {\n  condition: tru\n}')
      await page.fill('[name=name]', 'a')
      await page.click('button[formaction]')
      await page.locator('#issues').waitFor()
    }],
    ['message', mail],
    ['health', '/health'],
    ['keys', '/audit', async (page) => {
      await page.keyboard.press('?')
      await page.locator('#keys[open]').waitFor()
    }],
    ['policies', '/policies'],
    ['policies-address', '/policies?address=bob%40ours.example'],
    ['policies-unknown', '/policies?address=bob%40else.example'],
    ['policies-edit', '/policies/edit?scope=domain%3Aours.example'],
    ['policies-wrong', '/policies/edit?scope=workspace', async (page) => {
      await page.fill('input[name="weight.name"] >> nth=0', 'LINK_IP')
      await page.fill('input[name="weight.value"] >> nth=0', 'much')
      await page.fill('textarea[name=reason]', 'a mistake')
      await page.getByRole('button', { name: 'Save' }).click()
      await page.locator('.banner.t-crit').waitFor()
    }],
    ['policies-try', '/policies/edit?scope=domain%3Aours.example', async (page) => {
      await page.selectOption('select[name="action.malware"]', 'reject')
      await page.getByRole('button', { name: 'Try it out' }).click()
      await page.locator('#try table').first().waitFor()
    }],
    ['entries', '/policies/entries?state=all'],
    ['entry-new', `/policies/entries/new?kind=allow&item=${item}`],
    ['groups', '/policies/groups'],
    ['domains', '/policies/domains'],
    ['dlp', '/policies/dlp'],
    ['dlp-new', '/policies/dlp/new'],
    ['intel', '/intel'],
    ['intel-feeds', '/intel/feeds'],
    ['intel-overrides', '/intel/overrides'],
    ['incidents', '/incidents'],
    ['incident-new', '/incidents/new'],
    ['incident', '/incidents/new', async (page) => {
      await page.fill('input[name=title]', 'Phishing with a parcel, and a long name that has to wrap somewhere on a narrow page')
      const hour = await page.inputValue('input[name=detected]')
      await page.fill('input[name=aware]', hour)
      await page.getByRole('button', { name: 'Put on record' }).click()
      await page.locator('#reports').waitFor()
    }],
    ['incident-report', '/incidents?q=parcel', async (page) => {
      // Made by the state before, perhaps beside this one.
      await page.locator('[data-row] a[data-open]').first().waitFor().catch(() => {})
      while (!await page.locator('[data-row] a[data-open]').count()) await page.reload()
      await page.locator('[data-row] a[data-open]').first().click()
      await page.getByRole('link', { name: 'Early warning' }).first().click()
      await page.locator('#says').waitFor()
    }],
    ['alerts', '/alerts'],
    ['alert-rules', '/alerts/rules'],
    ['alert-rule', '/alerts/rules/new'],
    ['alert-reactions', '/alerts/reactions'],
    ['alert-silences', '/alerts/silences'],
    ['alert-channels', '/alerts/channels'],
    ['alert-history', '/alerts/history'],
    ['password', '/password'],
    ['not-found', '/nothing/here'],
  ]
  await look(context, 'light')
  const found = []
  const visit = ([name, path, act]) => withPage(async (page) => {
    await page.goto(base + path)
    if (act) await act(page)
    found.push(...await flaws(page, name))
  })
  const lane = async () => { while (states.length) await visit(states.shift()) }
  await Promise.all([lane(), lane()])
  assert.deepEqual(found, [])
})

test('every page in German, at 320 pixels too, without overflow', async () => {
  await look(context, 'light', 'de')
  for (const path of ['/', '/quarantine', '/messages', '/queue', '/health', '/audit', '/policies', '/policies/edit?scope=workspace', '/policies/entries', '/policies/entries/new', '/policies/groups', '/policies/domains', '/policies/dlp', '/policies/dlp/new', '/yara', '/yara/new', '/intel', '/intel/feeds', '/intel/overrides', '/incidents', '/incidents/new', '/alerts', '/alerts/rules', '/alerts/rules/new', '/alerts/reactions', '/alerts/silences', '/alerts/channels', '/password']) {
    await withPage(async (page) => {
      await page.goto(base + path)
      assert.equal(await page.getAttribute('html', 'lang'), 'de')
      for (const width of [1440, 390, 320]) {
        await page.setViewportSize({ width, height: 900 })
        assert.ok((await overflow(page)) <= 0, `${path} overflows at ${width}`)
        if (shots && width === 1440) await page.screenshot({ path: join(shots, `german${path.replaceAll(/[^a-z]/g, '-')}.png`) })
      }
    })
  }
  await look(context, 'light')
})

test('list: search keeps the focus and writes the address; chips, keys, drawer, Back', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/quarantine?range=all')
    const all = await page.locator('[data-row]').count()
    assert.ok(all >= 4, `${all} held mails`)
    await page.keyboard.press('/')
    await page.keyboard.type('4711')
    await page.waitForURL(/q=4711/)
    await page.waitForFunction((n) => document.querySelectorAll('[data-row]').length < n, all)
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'q', 'the search field lost the focus')
    await page.goto(base + '/quarantine?range=all')
    await page.locator('#chip-malware input').check()
    await page.waitForURL(/class=malware/)
    await page.waitForFunction(() => [...document.querySelectorAll('[data-row] .badge')].every((b) => b.classList.contains('c-malware')))
    await page.goBack()
    await page.waitForFunction((n) => document.querySelectorAll('[data-row]').length === n, all)
    await page.keyboard.press('j')
    await page.keyboard.press('j')
    await page.keyboard.press('Enter')
    await drawer(page).waitFor()
    assert.match(page.url(), /id=/)
    const first = await page.locator('#drawer [data-item]').getAttribute('data-item')
    await page.keyboard.press('j')
    await page.waitForFunction((id) => document.querySelector('#drawer [data-item]')?.getAttribute('data-item') !== id, first)
    assert.equal(await page.locator('[data-row][aria-current=true]').count(), 1)
    await page.reload()
    await drawer(page).waitFor()
    await page.keyboard.press('Escape')
    await drawer(page).waitFor({ state: 'detached' })
    assert.doesNotMatch(page.url(), /[?&]id=/)
  })
})

test('hostile mail stays text', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/quarantine?range=all')
    await page.evaluate(() => { globalThis.alert = () => { globalThis.owned = true } })
    await openItem(page, '"><img src=x')
    assert.equal(await page.evaluate(() => globalThis.owned), undefined)
    assert.equal(await page.locator('img[src="x"]').count(), 0)
  })
})

test('nothing but the server’s HTML becomes HTML: Trusted Types block the rest', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/quarantine')
    const said = await page.evaluate(() => {
      const tries = {
        insert: () => document.body.insertAdjacentHTML('beforeend', '<b>x</b>'),
        script: () => { document.createElement('script').text = 'alert(1)' },
        policy: () => globalThis.trustedTypes.createPolicy('other', {}),
      }
      return Object.entries(tries).map(([name, go]) => {
        try {
          go()
          return `${name}: let through`
        } catch {
          return ''
        }
      }).filter(Boolean)
    })
    assert.deepEqual(said, [])
    page.problems.length = 0 // the browser reports what it blocked
  })
})

test('an analyst finds a mail, looks at it safely and releases it to one recipient', async () => {
  await withPage(async (page) => {
    await openItem(page, 'Password expires today')
    await page.getByRole('link', { name: 'Open as a page' }).click()
    await page.getByRole('heading', { level: 1, name: /Password expires today/ }).waitFor()
    await page.selectOption('form[action$="/view"] select[name=purpose]', 'release')
    await page.fill('form[action$="/view"] input[name=reason]', 'browser test')
    await page.getByRole('button', { name: 'Show content' }).click()
    await page.locator('.bodytext').waitFor()
    await page.getByRole('link', { name: 'HTML' }).click()
    const frame = page.frameLocator('iframe.preview')
    await frame.getByText('Your password expires today').waitFor()
    assert.equal(await page.locator('iframe.preview').getAttribute('sandbox'), '')
    assert.equal(await frame.locator('a, form, input, script, img[src^="http"]').count(), 0, 'something in the preview can act')
    assert.match(await frame.locator('body').innerText(), /hxxp:\/\/login\[\.\]evil\[\.\]example/)
    assert.match(await page.locator('.bodynote').innerText(), /1 form/)
    assert.notEqual(await page.title(), 'owned')
    if (shots) await page.screenshot({ path: join(shots, 'preview.png') })
    page.problems = page.problems.filter((p) => !/sandboxed/.test(p))

    const item = await openItem(page, 'Invoice 4711')
    await page.keyboard.press('r')
    const dialog = page.locator('dialog#release')
    await dialog.waitFor()
    assert.ok(await dialog.evaluate((d) => d.matches(':modal')))
    const boxes = dialog.locator('input[name=recipient]')
    assert.equal(await boxes.count(), 2)
    await dialog.getByLabel('carol@ours.example').uncheck()
    if (shots) await page.screenshot({ path: join(shots, 'release.png') })
    await dialog.getByRole('button', { name: 'Release and deliver' }).click()
    assert.ok(await dialog.isVisible(), 'released without a reason')
    await dialog.locator('textarea[name=reason]').fill('verified by phone')
    if (await dialog.locator('input[name=password]').count()) await dialog.locator('input[name=password]').fill(password)
    await dialog.getByRole('button', { name: 'Release and deliver' }).click()
    await page.waitForURL(new RegExp(`/quarantine/${item}$`))
    await page.getByRole('status').filter({ hasText: 'on record' }).waitFor()
    await waitForState(page, 'bob@ours.example', 'Released')
    const bob = page.locator('.rcpts tr', { hasText: 'bob@ours.example' })
    assert.match(await bob.innerText(), /250/)
    assert.match(await page.locator('.rcpts tr', { hasText: 'carol@ours.example' }).innerText(), /Quarantined/)
    await page.goto(`${base}/quarantine/${item}?tab=history`)
    await page.locator('.acts').getByText('released the mail').waitFor()
    assert.match(await page.locator('.acts').innerText(), /verified by phone/)
    await page.goto(base + '/')
    await page.getByText('released the mail').first().waitFor()
  })
})

async function waitForState(page, recipient, state) {
  for (let i = 0; i < 60; i++) {
    const text = await page.locator('.rcpts tr', { hasText: recipient }).innerText()
    if (text.includes(state)) return
    await page.waitForTimeout(500)
    await page.reload()
  }
  assert.fail(`${recipient} did not become ${state}`)
}

test('a policy is tried before it is saved, and says where each line comes from', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/policies/groups')
    await page.fill('input[name=name]', 'Finance')
    await page.fill('textarea[name=members]', 'bob@ours.example')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByRole('link', { name: 'Policy Finance' }).click()
    await page.getByRole('link', { name: 'Edit Group Finance' }).click()
    await page.selectOption('select[name="action.malware"]', 'reject')
    await page.fill('input[name="threshold.phishing"]', '4.5')
    await page.getByRole('button', { name: 'Try it out' }).click()
    await page.getByText(/would be treated in another way/).first().waitFor()
    assert.match(await page.locator('#try').innerText(), /reject/)
    if (shots) await page.screenshot({ path: join(shots, 'policy-try.png'), fullPage: true })
    await page.fill('input[name=reason]', 'agreed with Finance')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByRole('status').filter({ hasText: 'in force' }).waitFor()
    await page.goto(base + '/policies?address=bob%40ours.example')
    const line = page.locator('.settings tr', { hasText: 'Phishing from' })
    assert.match(await line.innerText(), /4\.5[\s\S]*Group Finance/)
    assert.match(await page.locator('.acts').innerText(), /agreed with Finance/)
  })
})

test('a sender is blocked from a held mail, found in the list, and let go', async () => {
  await withPage(async (page) => {
    const item = await openItem(page, 'Password expires today')
    await page.goto(`${base}/quarantine/${item}`)
    await page.getByRole('link', { name: 'Block sender…' }).click()
    assert.equal(await page.inputValue('input[name=value]'), 'it@sender.example')
    await page.fill('textarea[name=reason]', 'a wave of phishing')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByRole('status').filter({ hasText: 'in force' }).waitFor()
    await page.goto(base + '/policies/entries')
    await filter(page, () => page.fill('#q', 'it@sender'))
    assert.match(page.url(), /q=it/)
    await row(page, 'it@sender.example').locator('a[data-open]').click()
    await page.fill('.pol-reset input[name=reason]', 'it is over')
    await page.getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('status').filter({ hasText: 'deleted' }).waitFor()
  })
})

test('deleting asks for a reason and leaves the facts', async () => {
  await withPage(async (page) => {
    const item = await openItem(page, '"><img src=x')
    await page.keyboard.press('#')
    const dialog = page.locator('dialog#delete')
    await dialog.locator('textarea[name=reason]').fill('test mail, no use')
    if (await dialog.locator('input[name=password]').count()) await dialog.locator('input[name=password]').fill(password)
    await dialog.getByRole('button', { name: 'Delete', exact: true }).click()
    await page.waitForURL(new RegExp(`/quarantine/${item}$`))
    await page.locator('.item-head').getByText('Deleted').waitFor()
    assert.equal(await page.locator('[data-act=release]').count(), 0, 'a deleted mail can be released')
  })
})

test('integrity: the record is checked with progress, an erasure says first what would go, an event has a proof', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/audit')
    await page.getByRole('link', { name: 'Integrity', exact: true }).click()
    // A checkpoint is signed each minute.
    for (const end = Date.now() + 90_000; Date.now() < end && !(await page.getByText('Root of the tree').count()); await page.waitForTimeout(1000)) await page.reload()
    await page.getByRole('button', { name: 'Check now' }).click()
    await page.locator('#check').getByText('events as they were recorded').waitFor()
    await page.fill('#erase [name=value]', 'carol@ours.example')
    await page.fill('#erase [name=basis]', 'Art. 17 GDPR')
    await page.fill('#erase [name=reason]', 'asked for in a letter')
    await page.getByRole('button', { name: 'What would go?' }).click()
    await page.locator('#erase [role=status]').waitFor()
    for (const [theme, lang] of [['light', 'en'], ['dark', 'de']]) {
      await look(context, theme, lang)
      await page.goto(base + '/audit/integrity')
      for (const width of [1440, 390, 320]) {
        await page.setViewportSize({ width, height: 900 })
        assert.deepEqual(await violations(page), [], `integrity ${theme} ${width}`)
        assert.ok((await overflow(page)) <= 0, `integrity overflows at ${width}`)
        if (shots) await page.screenshot({ path: join(shots, `integrity-${theme}-${width}.png`), fullPage: true })
      }
    }
    await look(context, 'light')
    await page.setViewportSize({ width: 1440, height: 900 })
    await page.goto(base + '/audit?action=auth.*')
    await page.locator('[data-row] a[data-open]').last().click()
    await page.locator('.expand').waitFor()
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download (tlog-proof)' }).click()])
    assert.match((await (await file.createReadStream()).toArray()).join(''), /^c2sp\.org\/tlog-proof@v1\nindex \d+\n/)
  })
})

test('health renews itself and says when it was checked', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/health')
    const at = await page.locator('#health').getAttribute('data-at')
    await page.waitForFunction((old) => document.querySelector('#health')?.getAttribute('data-at') !== old, at, { timeout: 15_000 })
    assert.ok(await page.locator('.hcard').count() >= 4)
    await page.route('**/health', (r) => r.abort())
    await page.evaluate(() => { document.querySelector('#health').dataset.freshUntil = '1' })
    await page.locator('#health.stale .oldnote').waitFor({ timeout: 10_000 })
    page.problems.length = 0
  })
})

test('theme and language: one click, kept, no flash', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/health')
    await page.locator('.side button[value=dark]').click()
    await page.waitForURL(base + '/health')
    assert.equal(await page.getAttribute('html', 'data-theme'), 'dark')
    await page.locator('.side button[value=de]').click()
    await page.getByRole('heading', { level: 1, name: 'Zustand' }).waitFor()
  })
  await look(context, 'light')
})

test('without scripts everything works', async () => {
  const plain = await openBrowser({ javaScriptEnabled: false })
  try {
    await look(plain.context, 'light')
    await withPage(async (page) => {
      await login(page)
      await page.goto(base + '/quarantine?range=all')
      await page.fill('#q', 'Your parcel')
      await page.click('form[role=search] noscript button, form[role=search] button.btn')
      await row(page, 'Your parcel').first().locator('a[data-open]').click()
      await drawer(page).waitFor()
      const id = await page.locator('#drawer [data-item]').getAttribute('data-item')
      await page.click('#drawer [data-act=release]')
      await page.waitForURL(new RegExp(`/quarantine/${id}\\?act=release`))
      const dialog = page.locator('dialog#release')
      assert.ok(await dialog.isVisible())
      await dialog.locator('textarea[name=reason]').fill('  x ')
      await dialog.getByRole('link', { name: 'Cancel' }).click()
      await page.waitForURL(new RegExp(`/quarantine/${id}$`))
      await page.selectOption('form[action$="/view"] select[name=purpose]', 'test')
      await page.getByRole('button', { name: 'Show content' }).click()
      await page.locator('.bodytext, #tab .muted').first().waitFor()
      await page.goto(base + '/audit?q=quarantine.view_body')
      await page.locator('[data-row] a[data-open]').first().click()
      await page.locator('.expand').waitFor()
      await page.goto(base + '/policies/edit?scope=domain%3Aours.example')
      await page.selectOption('select[name="action.suspicious"]', 'reject')
      await page.getByRole('button', { name: 'Try it out' }).click()
      await page.locator('#try table').first().waitFor()
      await page.getByRole('button', { name: 'Back to the form' }).click()
      assert.equal(await page.inputValue('select[name="action.suspicious"]'), 'reject')
      await page.goto(base + '/health')
      await page.locator('.side form[action="/logout"] button').click()
      await page.waitForURL(/\/login/)
      await page.goto(base + '/quarantine')
      assert.match(page.url(), /\/login/)
    }, { context: plain.context })
  } finally {
    await plain.close()
  }
})

test('the picture for the README', { skip: !shots }, async () => {
  await look(context, 'light')
  await withPage(async (page) => {
    await page.goto(base + '/quarantine?range=all')
    await row(page, 'Password expires today').first().locator('a[data-open]').click()
    await drawer(page).waitFor()
    await page.mouse.move(0, 0)
    await page.evaluate(() => { document.activeElement?.blur() })
    await page.screenshot({ path: join(shots, 'quarantine.png') })
  })
})
