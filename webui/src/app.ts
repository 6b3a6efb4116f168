// The whole script of the pages. Every page works without it: it only makes
// lists quicker, opens dialogs in place and adds single-key shortcuts. It has
// no texts of its own; they come as data attributes.
import htmx from 'htmx.org'

const deny = function (): never {
  throw new Error('blocked by policy')
}

// The one Trusted Types policy: server HTML may go to the parser, and nothing
// may become script. htmx also loses the Function constructor.
interface Policy { createHTML(s: string): unknown; createScript(s: string): unknown }
const trusted = (window as unknown as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } }).trustedTypes
const rules: Policy = { createHTML: (s) => s, createScript: deny }
const policy = trusted ? trusted.createPolicy('htmx', rules) : rules
;(htmx as unknown as { registerExtension(name: string, ext: object): void }).registerExtension('tt', {
  init(api: { initSecurity(p: Policy, sync: unknown, async: unknown): void }) {
    api.initSecurity(policy, deny, deny)
  },
})

const one = <T extends Element = HTMLElement>(selector: string, root: ParentNode = document): T | null => root.querySelector<T>(selector)
const all = <T extends Element = HTMLElement>(selector: string, root: ParentNode = document): T[] => [...root.querySelectorAll<T>(selector)]

// --- dialogs -------------------------------------------------------------

// A link to the same form as a page of its own opens the dialog that is
// already here; a dialog that the server sent open becomes a modal one.
function openDialog(id: string): boolean {
  const dialog = document.getElementById(id)
  if (!(dialog instanceof HTMLDialogElement)) return false
  if (dialog.open) dialog.close()
  dialog.showModal()
  const first = ['[autofocus]', '[aria-invalid=true]', 'textarea', 'input:not([type=hidden])'].map((s) => one<HTMLElement>(s, dialog)).find(Boolean)
  first?.focus()
  return true
}

function upgradeOpenDialog(): void {
  const dialog = one<HTMLDialogElement>('dialog[open]')
  if (dialog && !dialog.matches(':modal')) openDialog(dialog.id)
}

// --- lists ---------------------------------------------------------------

const rows = (): HTMLElement[] => all('[data-row]')
const rowLink = (row: HTMLElement): HTMLAnchorElement | null => one<HTMLAnchorElement>('a[data-open]', row)

function currentRow(): number {
  const list = rows()
  const focused = document.activeElement?.closest<HTMLElement>('[data-row]')
  const at = focused ? list.indexOf(focused) : -1
  return at >= 0 ? at : list.findIndex((r) => r.getAttribute('aria-current') === 'true')
}

let moving = 0
function move(step: number): void {
  const list = rows()
  if (!list.length) return
  const next = list[Math.max(0, Math.min(list.length - 1, currentRow() + step))]
  const link = next && rowLink(next)
  link?.focus()
  next?.scrollIntoView({ block: 'nearest' })
  if (link && one('#drawer .drawer')) {
    clearTimeout(moving)
    moving = window.setTimeout(() => link.click(), 120)
  }
}

// The row that is open in the drawer is marked here too, since a fragment
// replaces only the drawer.
function markOpenRow(): void {
  const open = one('#drawer [data-item]')?.dataset['item']
  for (const row of rows()) {
    if (!row.hasAttribute('data-id')) continue
    if (row.dataset['id'] === open) row.setAttribute('aria-current', 'true')
    else row.removeAttribute('aria-current')
  }
  document.body.classList.toggle('has-drawer', Boolean(open))
}

function closeDrawer(): boolean {
  const link = one<HTMLAnchorElement>('#drawer a[data-close]')
  if (!link) return false
  const id = one('#drawer [data-item]')?.dataset['item']
  link.click()
  const row = rows().find((r) => r.dataset['id'] === id)
  if (row) rowLink(row)?.focus()
  return true
}

document.addEventListener('click', (event) => {
  const target = event.target as Element
  const opener = target.closest<HTMLElement>('[data-dialog]')
  if (opener && openDialog(opener.dataset['dialog'] ?? '')) {
    event.preventDefault()
    return
  }
  const closer = target.closest<HTMLElement>('dialog [data-dismiss]')
  if (closer) {
    event.preventDefault()
    closer.closest('dialog')?.close()
    return
  }
  const copy = target.closest<HTMLElement>('[data-copy]')
  if (copy) {
    event.preventDefault()
    void copyText(copy.dataset['copy'] || location.href, copy.dataset['copied'])
    return
  }
  // A click anywhere on a row opens it, unless text was being selected.
  const row = target.closest<HTMLElement>('[data-row]')
  if (row && !target.closest('a, button, input, label, summary, .expanded') && !String(getSelection())) rowLink(row)?.click()
})

async function copyText(text: string, done?: string): Promise<void> {
  await navigator.clipboard.writeText(new URL(text, location.href).href)
  if (done) toast(done)
}

function toast(text: string): void {
  const region = one('#toasts')
  if (!region) return
  const note = document.createElement('p')
  note.className = 'toast'
  note.textContent = text
  region.append(note)
  window.setTimeout(() => note.remove(), 5000)
}

// --- picking rows ----------------------------------------------------------

const picks = (): HTMLInputElement[] => all<HTMLInputElement>('[data-pick]')
let lastPick = -1

// Says how many are picked. With all that match, single rows count no more.
function showPicked(): void {
  const every = one<HTMLInputElement>('[data-all]')
  const list = picks()
  const n = list.filter((b) => b.checked).length
  const count = one('[data-picked]')
  if (count) count.textContent = String(n)
  const page = one<HTMLInputElement>('[data-pick-all]')
  if (page) {
    page.checked = n > 0 && n === list.length
    page.indeterminate = n > 0 && n < list.length
  }
  one('[data-bulkbar]')?.classList.toggle('on', n > 0 || Boolean(every?.checked))
  for (const button of all<HTMLButtonElement>('[data-bulk-act]')) button.disabled = !n && !every?.checked
  for (const row of rows()) row.classList.toggle('picked', Boolean(one<HTMLInputElement>('[data-pick]', row)?.checked))
}

// Picks a row, or with range all from the last picked one to it.
function pick(at: number, on: boolean, range: boolean): void {
  const list = picks()
  const from = range && lastPick >= 0 ? Math.min(lastPick, at) : at
  const to = range && lastPick >= 0 ? Math.max(lastPick, at) : at
  for (const box of list.slice(from, to + 1)) box.checked = on
  lastPick = at
  showPicked()
}

document.addEventListener('click', (event) => {
  const box = (event.target as Element).closest<HTMLInputElement>('[data-pick]')
  if (box) pick(picks().indexOf(box), box.checked, event.shiftKey)
})
document.addEventListener('change', (event) => {
  const box = event.target as HTMLInputElement
  if (box.matches('[data-pick-all]')) for (const b of picks()) b.checked = box.checked
  if (box.matches('[data-pick-all], [data-all]')) showPicked()
})

function pickRow(range: boolean): void {
  const row = rows()[currentRow()]
  const box = row && one<HTMLInputElement>('[data-pick]', row)
  if (box) pick(picks().indexOf(box), range || !box.checked, range)
}

function pickNone(): boolean {
  if (!picks().some((b) => b.checked)) return false
  for (const b of picks()) b.checked = false
  showPicked()
  return true
}

// --- keys ----------------------------------------------------------------

let leader = 0
const isField = (e: Element | null): boolean => Boolean(e?.closest('input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]'))

function click(selector: string): boolean {
  const element = one(selector)
  element?.click()
  return Boolean(element)
}

function go(key: string): boolean {
  return click(`.nav a[data-key="${CSS.escape(key)}"]`)
}

const keys: Record<string, () => unknown> = {
  '/': () => one<HTMLInputElement>('#q')?.select(),
  '?': () => openDialog('keys'),
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  n: () => click('a[rel=next]'),
  p: () => click('a[rel=prev]'),
  c: () => click('[data-copy]'),
  r: () => click('[data-act=release]'),
  '#': () => click('[data-act=delete]'),
  o: () => {
    const row = rows()[currentRow()]
    if (row) rowLink(row)?.click()
  },
  x: () => pickRow(false),
  X: () => pickRow(true),
  Escape: () => closeDrawer() || pickNone(),
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
  if (one('dialog:modal')) return
  if (isField(event.target as Element)) {
    if (event.key === 'Escape') (event.target as HTMLElement).blur()
    return
  }
  if (document.body.dataset['keys'] === 'off' && event.key !== 'Escape') return
  const arrow = event.key === 'ArrowDown' || event.key === 'ArrowUp'
  if (arrow && !document.activeElement?.closest('[data-row]')) return
  if (Date.now() - leader < 1200) {
    leader = 0
    if (go(event.key)) event.preventDefault()
    return
  }
  if (event.key === 'g') {
    leader = Date.now()
    return
  }
  const action = keys[event.key]
  if (!action) return
  if (event.key !== 'Escape') event.preventDefault()
  action()
})

// A release begins in some seconds; then the page shows how it goes, unless
// somebody is about to say something in a dialog.
function countDown(): void {
  for (const el of all('[data-countdown]')) {
    const left = Number(el.dataset['countdown']) - 1
    el.dataset['countdown'] = String(left)
    if (left > 0) el.textContent = String(left)
    else if (left <= -1 && !one('dialog[open]')) location.reload()
  }
}
setInterval(countDown, 1000)

// --- editor of rules ------------------------------------------------------

// Line numbers beside the text, with what the compiler said of a line marked.
function numberLines(): void {
  const code = one('[data-code]')
  const text = code && one<HTMLTextAreaElement>('textarea', code)
  if (!code || !text) return
  const gutter = document.createElement('span')
  gutter.className = 'gutter'
  gutter.setAttribute('aria-hidden', 'true')
  const issues = new Map(all('.issues [data-line]').map((i) => [Number(i.dataset['line']), i.hasAttribute('data-error') ? 'bad' : 'odd']))
  const draw = (): void => {
    const count = text.value.split('\n').length
    if (gutter.childElementCount === count) return
    gutter.replaceChildren(...Array.from({ length: count }, (_, i) => {
      const line = document.createElement('span')
      line.textContent = String(i + 1)
      line.className = issues.get(i + 1) ?? ''
      return line
    }))
  }
  const follow = (): void => { gutter.scrollTop = text.scrollTop }
  text.addEventListener('input', () => { draw(); follow() })
  text.addEventListener('scroll', follow)
  code.prepend(gutter)
  code.classList.add('numbered')
  draw()
  for (const issue of all('.issues [data-line] a')) {
    issue.addEventListener('click', (event) => {
      event.preventDefault()
      const lines = text.value.split('\n')
      const at = Number(issue.closest<HTMLElement>('[data-line]')?.dataset['line']) - 1
      const start = lines.slice(0, at).join('\n').length + (at > 0 ? 1 : 0)
      text.focus()
      text.setSelectionRange(start, start + (lines[at]?.length ?? 0))
      text.scrollTop = Math.max(0, at - 4) * (text.scrollHeight / lines.length)
    })
  }
}

// --- live parts ----------------------------------------------------------

// Health data that no answer has renewed for a minute is shown as old.
function markStale(): void {
  for (const part of all('[data-fresh-until]')) {
    const until = Number(part.dataset['freshUntil'])
    part.classList.toggle('stale', Date.now() > until)
  }
}
window.setInterval(markStale, 5000)

// The browser's clock may be wrong, so the time of arrival counts.
function stampFresh(): void {
  for (const part of all('[data-fresh-for]')) {
    if (part.dataset['stamped'] === part.dataset['at']) continue
    part.dataset['stamped'] = part.dataset['at'] ?? ''
    part.dataset['freshUntil'] = String(Date.now() + Number(part.dataset['freshFor']) * 1000)
  }
}

let busy = 0
document.addEventListener('htmx:before:request', () => {
  busy++
  window.setTimeout(() => document.body.classList.toggle('busy', busy > 0), 150)
})
document.addEventListener('htmx:finally:request', () => {
  busy = Math.max(0, busy - 1)
  if (!busy) document.body.classList.remove('busy')
})
document.addEventListener('htmx:after:swap', () => {
  markOpenRow()
  stampFresh()
  upgradeOpenDialog()
  lastPick = -1
  showPicked()
})
document.addEventListener('change', (event) => {
  const form = (event.target as Element).closest<HTMLFormElement>('form[data-autosubmit]')
  form?.requestSubmit()
})

// --- passkeys ------------------------------------------------------------

const toBytes = (text: string): ArrayBuffer => {
  const raw = atob(text.replaceAll('-', '+').replaceAll('_', '/'))
  return Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer
}
const toText = (bytes: ArrayBuffer | null | undefined): string | undefined =>
  bytes ? btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '') : undefined

interface Named { id: string; type: 'public-key' }
const named = (list: Named[] | undefined): PublicKeyCredentialDescriptor[] => (list ?? []).map((c) => ({ ...c, id: toBytes(c.id) }))

// Asks the browser for a passkey, with the options that the server made, and
// returns its answer in the form of WebAuthn's JSON.
async function askPasskey(kind: string, o: any): Promise<string> {
  const options = { ...o, challenge: toBytes(o.challenge) }
  const credential = (kind === 'create'
    ? await navigator.credentials.create({ publicKey: { ...options, user: { ...o.user, id: toBytes(o.user.id) }, excludeCredentials: named(o.excludeCredentials) } })
    : await navigator.credentials.get({ publicKey: { ...options, allowCredentials: named(o.allowCredentials) } })) as PublicKeyCredential | null
  if (!credential) throw new Error('no passkey')
  const r = credential.response as AuthenticatorAttestationResponse & AuthenticatorAssertionResponse
  return JSON.stringify({
    id: credential.id, rawId: credential.id, type: credential.type, clientExtensionResults: credential.getClientExtensionResults(),
    response: kind === 'create'
      ? { clientDataJSON: toText(r.clientDataJSON), attestationObject: toText(r.attestationObject), transports: r.getTransports?.() ?? [] }
      : { clientDataJSON: toText(r.clientDataJSON), authenticatorData: toText(r.authenticatorData), signature: toText(r.signature), userHandle: toText(r.userHandle) },
  })
}

// A form with data-passkey is sent once the passkey has answered. What is signed
// is the form itself: its address and its fields.
async function completeWithPasskey(form: HTMLFormElement, button: HTMLElement | null): Promise<void> {
  // A form can have two ends, as Approve and Refuse: each button names its own.
  const to = button?.getAttribute('formaction')
  if (to) form.setAttribute('action', to)
  const kind = form.dataset['passkey'] ?? ''
  const wrong = one('[data-passkey-wrong]', form)
  if (wrong) wrong.hidden = true
  try {
    const body = new URLSearchParams()
    if (kind === 'sign') {
      const fields: Record<string, string[]> = {}
      for (const [name, value] of new FormData(form)) (fields[name] ??= []).push(String(value))
      // Not form.action: a field of that name would stand in its place.
      body.set('act', new URL(form.getAttribute('action') ?? '', location.href).pathname)
      body.set('fields', JSON.stringify(fields))
    }
    const begun = await fetch(form.dataset['begin'] ?? '', { method: 'POST', body })
    if (!begun.ok) throw new Error(String(begun.status))
    const { options, step } = await begun.json() as { options: { publicKey: unknown }; step: string }
    const answer = await askPasskey(kind, options.publicKey)
    one<HTMLInputElement>('input[name=step]', form)!.value = step
    one<HTMLInputElement>('input[name=answer]', form)!.value = answer
    HTMLFormElement.prototype.submit.call(form)
  } catch {
    delete form.dataset['sent']
    if (wrong) {
      wrong.textContent = form.dataset['failed'] ?? ''
      wrong.hidden = false
    }
  }
}

// A dialog's submit button may be pressed once.
document.addEventListener('submit', (event) => {
  const form = event.target as HTMLFormElement
  if (form.getAttribute('method') !== 'post') return
  if (form.dataset['sent']) event.preventDefault()
  else if (form.dataset['passkey']) {
    event.preventDefault()
    void completeWithPasskey(form, event.submitter)
  }
  if (!form.hasAttribute('data-again')) form.dataset['sent'] = 'yes'
})
window.addEventListener('pageshow', () => {
  showPicked()
  for (const form of all('form[data-sent]')) delete form.dataset['sent']
})

markOpenRow()
stampFresh()
upgradeOpenDialog()
showPicked()
numberLines()
document.documentElement.dataset['js'] = 'on'
