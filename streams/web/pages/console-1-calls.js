// The console.  All that it shows are answers of the documented calls, and all of it is set as text: titles, ids and
// links come from catalogs, so nothing is ever made into markup, and of links only those to pictures are followed.

const RECOMMEND = '/1/indexes/*/recommendations';
const NOBODY = '\u0001console';  // no item: what is asked for then is the fallback's alone
const DERIVED = ['stock', 'on_sale', 'low_stock', 'out_of_stock', 'in_stock', 'discount'];
const KNOWN = new Set(['objectID', 'title', 'name', 'price', 'list_price', 'sale_price', 'image', 'images', 'image_url',
  'image_link', 'additional_image_link', ...DERIVED]);
const SHELF = 1000;
const LIVE_MS = 5000;
const RULES = 60;

const $ = (id) => document.getElementById(id);
const form = $('ask');
let key = sessionStorage.getItem('kindred-key') || '';
let index = 'items';
let source = null;        // the record of the item that is asked for
let shelf = null;         // items to choose from, once read
let sample = [];          // ids of those that are shown before one is chosen
let asking = null;        // aborts the question before
let applied = [];
let cards = new Map();    // by objectID, what is shown of a hit
let blobs = new Map();    // by item and name, pictures that a call gave

// Calls

class CallError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function call(method, path, body, signal) {
  const headers = key ? { 'x-algolia-api-key': key } : {};
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new CallError(0, 'the worker does not answer');
  }
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* not JSON: its status says enough */ }
  if (!answer.ok && !(path === '/readyz' && value)) throw new CallError(answer.status, value?.message || `status ${answer.status}`);
  return path === '/metrics' ? text : value;
}

// Making elements: text is always text

function made(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content.filter((part) => part !== null && part !== undefined && part !== ''));
  return element;
}

function say(element, text) {  // a live region is told only what is new
  element.hidden = !text;
  if (element.textContent !== (text || '')) element.textContent = text || '';
}

const number = (value, digits = 2) => Number(value).toLocaleString('en', { maximumFractionDigits: digits });
const money = (value) => Number(value).toLocaleString('en', { minimumFractionDigits: Number.isInteger(value) ? 0 : 2, maximumFractionDigits: 2 });
const titleOf = (record) => String(record.title || record.name || record.objectID);

function ago(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 100) return `${number(s, s < 10 ? 1 : 0)} s`;
  if (s < 6000) return `${number(s / 60, 0)} min`;
  return s < 172800 ? `${number(s / 3600, 0)} h` : `${number(s / 86400, 0)} days`;
}

// Pictures: those of other hosts by their link, the rest by a call

function picture(element, record) {
  const name = typeof record._matchedImage === 'string' ? record._matchedImage : '';
  if (element.dataset.name === `${record.objectID} ${name}`) return;
  element.dataset.name = `${record.objectID} ${name}`;
  element.querySelector('img')?.remove();
  if (!name) return;
  const image = made('img');
  image.alt = '';
  image.loading = 'lazy';
  image.decoding = 'async';
  image.referrerPolicy = 'no-referrer';
  image.addEventListener('error', () => image.remove());
  element.append(image);
  if (/^https?:\/\//i.test(name)) image.src = name;
  else local(record.objectID, name).then((url) => { if (url) image.src = url; else image.remove(); });
}

function local(item, name) {
  const known = `${item}\n${name}`;
  if (!blobs.has(known)) {
    if (blobs.size > 500) forget();
    const path = `/1/indexes/${encodeURIComponent(index)}/looking-similar/picture/${encodeURIComponent(item)}?name=${encodeURIComponent(name)}`;
    blobs.set(known, fetch(path, { headers: key ? { 'x-algolia-api-key': key } : {} })
      .then(async (answer) => {
        if (answer.ok) return URL.createObjectURL(await answer.blob());
        if (answer.status !== 404 && answer.status !== 422) blobs.delete(known);  // it may come later
        return null;
      }, () => { blobs.delete(known); return null; }));
  }
  return blobs.get(known);
}

function forget() {
  for (const each of blobs.values()) each.then((url) => url && URL.revokeObjectURL(url));
  blobs = new Map();
}
