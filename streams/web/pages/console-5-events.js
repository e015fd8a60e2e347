// Keys

function wantKey(why) {
  say($('key-why'), why || 'The search key shows look-alikes; the admin key also rules and the worker.');
  $('key').value = key;
  if (!$('key-dialog').open) $('key-dialog').showModal();
}

$('key-form').addEventListener('submit', (event) => {
  event.preventDefault();  // as a form of a dialog it would close it, and some policies take that for sending
  key = $('key').value.trim();
  if (key) sessionStorage.setItem('kindred-key', key); else sessionStorage.removeItem('kindred-key');
  $('key-dialog').close();
  forget();
  shelf = null;
  sample = [];
  cards = new Map();
  everythingAgain();
});
$('key-cancel').addEventListener('click', () => $('key-dialog').close());
$('use-key').addEventListener('click', () => wantKey(''));

// What is done when

async function everythingAgain() {
  await ask();
  await Promise.all([readRules(), readHealth()]);
}

let soon = 0;
form.addEventListener('input', () => {
  clearTimeout(soon);
  soon = setTimeout(() => { remember(false); ask(); }, 300);
});
form.addEventListener('submit', (event) => { event.preventDefault(); clearTimeout(soon); remember(true); ask(); });
$('random').addEventListener('click', random);
$('item').addEventListener('focus', () => readShelf().catch(() => {}), { once: true });
document.addEventListener('click', (event) => {
  const pick = event.target.closest?.('.pick');
  if (pick) { choose(pick.dataset.item); $('hits-title').focus({ preventScroll: true }); $('found').scrollIntoView({ block: 'nearest' }); }
});
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !event.target.closest?.('input, dialog')) { event.preventDefault(); $('item').select(); }
});
addEventListener('popstate', () => { recall(); ask(); });
setInterval(() => {
  if (document.hidden || $('key-dialog').open) return;
  if ($('live').checked) ask();
  readRules();
  readHealth();
}, LIVE_MS);

recall();
everythingAgain();
