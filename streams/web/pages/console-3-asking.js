// Asking

function fields() {
  const contexts = $('contexts').value.split(',').map((each) => each.trim()).filter(Boolean);
  const parameters = { attributesToRetrieve: ['*', ...DERIVED], enableRules: $('rules-on').checked };
  if ($('filters').value.trim()) parameters.filters = $('filters').value;
  if (contexts.length) parameters.ruleContexts = contexts;
  return { queryParameters: parameters, maxRecommendations: Math.min(100, Math.max(1, $('count').valueAsNumber || 20)), outOfStock: $('out').checked };
}

const quoted = (text) => `objectID:"${text.replace(/["\\]/g, '\\$&')}"`;

const everything = (parameters, more) => ({
  objectID: NOBODY, outOfStock: true, fallbackParameters: parameters || {},
  queryParameters: { enableRules: false, attributesToRetrieve: ['*', ...DERIVED] }, ...more,
});

async function ask() {
  const item = $('item').value.trim();
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  $('hits-title').textContent = item ? 'Look-alikes' : 'Pick an item';
  const asked = fields();
  try {
    const wanted = item
      ? [{ objectID: item, explain: true, ...asked },
        everything({ filters: quoted(item) }, { maxRecommendations: 1 })]
      : [everything({ filters: asked.queryParameters.filters || await some(asked.maxRecommendations) }, { maxRecommendations: asked.maxRecommendations })];
    const { results } = await call('POST', RECOMMEND, { requests: wanted }, signal);
    const [result] = results;
    const found = item ? results[1].hits?.[0] : null;
    source = found && found.objectID === item ? found : null;
    index = result.index || index;
    showResult(item, result);
    say($('problem'), '');
  } catch (error) {
    if (error.name === 'AbortError') return;
    failed(error, item);
  }
}

function failed(error, item) {
  if (error.status === 403) return wantKey(key ? error.message : '');
  if (wrongFilter(error.message)) return;
  const wording = error.status === 404 && !item ? 'This worker does not answer requests: it runs without the stage serve.' : error.message;
  if (error.status === 404 || error.status === 422) { source = null; showSource(); showHits([], false); showRemoved(null); $('about').textContent = ''; }
  say($('problem'), wording);
}

// Where in the filter a mistake is: the text up to it, and what stands there
function wrongFilter(message) {
  const host = $('filter-error'), box = $('filters');
  const about = /(?:queryParameters|fallbackParameters)\.filters/.test(message || '');
  box.setAttribute('aria-invalid', String(about));
  host.hidden = !about;
  if (!about) { host.replaceChildren(); return false; }
  const at = /at position (\d+)/.exec(message);
  const text = [...box.value];
  const place = at ? Math.min(Number(at[1]) - 1, text.length) : text.length;
  const rest = text.slice(place).join('');
  const shown = made('code', '', text.slice(0, place).join(''), made('mark', '', rest || '\u00a0'));
  const wording = message.replace(/^.*?Parameters\.filters( at position \d+)?( \(.*?\))?:\s*/s, '');
  if (host.lastChild?.textContent !== wording || host.firstChild?.textContent !== shown.textContent) host.replaceChildren(shown, wording);
  return true;
}

function showResult(item, result) {
  const wrong = result.status && result.status !== 200;
  if (!(wrong && wrongFilter(result.message))) {
    wrongFilter('');
    if (wrong) throw new CallError(result.status, result.message);
  }
  applied = result.appliedRules || [];
  showSource();
  if (wrong) return;
  showHits(result.hits, Boolean(item));
  const about = [];
  if (item) {
    about.push(`${result.nbHits} hit${result.nbHits === 1 ? '' : 's'} in ${result.processingTimeMS} ms`);
    about.push(applied.length ? `rules: ${applied.slice(0, 8).join(', ')}${applied.length > 8 ? ` and ${applied.length - 8} more` : ''}` : 'no rule applied');
    if (result.coverage?.share < 1) about.push(`only ${result.coverage.answered} of ${result.coverage.of} shards`);
    about.push(...(result.unusedSources || []).map((each) => each.message));
  } else about.push(result.nbHits ? 'or type its id above; these are some of the catalog' : 'the catalog has none of that kind');
  if ($('about').textContent !== about.join(' · ')) $('about').textContent = about.join(' · ');
  showRemoved(result.explain);
  showFresh(result.watermark);
  markRules();
}

function showRemoved(explained) {
  const rows = [...(explained?.removed || [])].map((each) => {
    const examples = made('td');
    for (const example of each.examples || []) {
      const pick = made('button', 'pick', `${example.objectID} (${number(example._score, 1)})`);
      pick.type = 'button';
      pick.dataset.item = example.objectID;
      examples.append(pick);
    }
    const count = each.count ?? each.atLeast;
    return made('tr', '', made('td', '', each.rule ? `rule ${each.rule}` : each.by), made('td', '', made('code', '', each.what || '')),
      made('td', 'number', `${each.count === undefined ? 'at least ' : ''}${number(count)}`), examples);
  });
  for (const pin of explained?.pins || []) {
    if (!pin.notShown) continue;
    rows.push(made('tr', '', made('td', '', `pin of ${pin.rule}`), made('td', '', `${pin.objectID} at place ${pin.position + 1}`), made('td', 'number', '1'), made('td', '', pin.notShown)));
  }
  $('removed').hidden = !rows.length;
  const focused = document.activeElement?.dataset?.item;
  const inside = $('removed-rows').contains(document.activeElement);
  $('removed-rows').replaceChildren(...rows);
  if (inside) [...$('removed-rows').querySelectorAll('.pick')].find((each) => each.dataset.item === focused)?.focus({ preventScroll: true });
}

// Choosing

async function readShelf() {
  if (shelf?.length) return shelf;
  const asked = everything({}, { maxRecommendations: SHELF });
  asked.queryParameters.attributesToRetrieve = ['title', 'name'];
  const { hits } = await call('POST', RECOMMEND, asked);
  shelf = hits.map((hit) => ({ objectID: hit.objectID, title: titleOf(hit) }));
  $('items').replaceChildren(...shelf.map((each) => { const option = made('option'); option.value = each.objectID; option.label = each.title; return option; }));
  return shelf;
}

// A filter for some items of the shelf, the same ones as long as the page stays
async function some(count) {
  const items = await readShelf();
  while (sample.length < Math.min(count, items.length)) {
    const { objectID } = items[Math.floor(Math.random() * items.length)];
    if (!sample.includes(objectID)) sample.push(objectID);
  }
  return sample.slice(0, count).map(quoted).join(' OR ');
}

async function random() {
  try {
    const items = await readShelf();
    if (!items.length) return say($('problem'), 'The catalog is empty, or its pictures are not embedded yet.');
    let { objectID } = items[Math.floor(Math.random() * items.length)];
    if (items.length >= SHELF) {  // the shelf ends before the catalog does: walk on from there
      const walk = { steps: 12, leash: 0, seed: Math.floor(Math.random() * 2 ** 31) };
      const { hits } = await call('POST', RECOMMEND, { objectID, walk, outOfStock: true, queryParameters: { enableRules: false, attributesToRetrieve: [] } });
      objectID = hits.at(-1)?.objectID ?? objectID;
    }
    choose(objectID);
  } catch (error) { failed(error, 'random'); }
}

function choose(item) {
  $('item').value = item;
  remember(true);
  ask();
}

// What is asked for stands in the address, so that it can be sent to somebody

function remember(asNew) {
  const asked = new URLSearchParams();
  for (const name of ['item', 'filters', 'contexts']) if ($(name).value.trim()) asked.set(name, $(name).value.trim());
  if ($('count').value !== '20') asked.set('count', $('count').value);
  if (!$('rules-on').checked) asked.set('rules', '0');
  if ($('out').checked) asked.set('out', '1');
  const address = `#${asked}`;
  if (address !== (location.hash || '#')) history[asNew ? 'pushState' : 'replaceState'](null, '', address);
}

function recall() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const name of ['item', 'filters', 'contexts']) $(name).value = asked.get(name) || '';
  $('count').value = asked.get('count') || '20';
  $('rules-on').checked = asked.get('rules') !== '0';
  $('out').checked = asked.get('out') === '1';
}
