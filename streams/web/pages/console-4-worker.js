// Rules

let listed = null;

function inWords(rule) {
  const lines = [];
  const add = (label, text) => lines.push(made('li', '', made('span', 'by', `${label} `), made('code', '', String(text))));
  const { condition = {}, consequence = {}, validity = [] } = rule;
  const params = consequence?.params || {};
  if (condition?.filters) add('if the item is', condition.filters);
  if (condition?.context) add('in the context', condition.context);
  for (const pin of consequence?.promote || []) add(`pins to place ${Number(pin.position) + 1}`, pin.objectID);
  if (consequence?.hide?.length) add('hides', consequence.hide.slice(0, 5).map((each) => each.objectID).join(', ') + (consequence.hide.length > 5 ? ` and ${consequence.hide.length - 5} more` : ''));
  if (params.filters) add('shows only', params.filters);
  for (const each of params.automaticFacetFilters || []) add(each.negative ? 'never the same' : 'the same', typeof each === 'string' ? each : each.facet);
  for (const each of [params.optionalFilters || []].flat(2)) add('prefers', each);
  for (const each of params.boosts || []) add(`×${each.factor}`, each.filters);
  for (const each of validity || []) lines.push(made('li', '', made('span', 'by', 'valid '), [each.from && `from ${moment(each.from)}`, each.until && `until ${moment(each.until)}`].filter(Boolean).join(' ')));
  return lines;
}

const moment = (seconds) => { const at = new Date(seconds * 1000); return Number.isNaN(at.valueOf()) ? String(seconds) : at.toLocaleString(); };

function isOpen(rule) {
  const now = Date.now() / 1000;
  return !rule.validity?.length || rule.validity.some((each) => (each.from ?? -Infinity) <= now && now < (each.until ?? Infinity));
}

// The built-in rule is not among what the call lists, and has its place there all the same: by what it does and its id

function goesAfterBuiltIn(rule) {
  const { filters, optionalFilters, boosts, automaticFacetFilters } = rule.consequence?.params ?? {};
  if (rule.condition?.context != null) return false;
  if (![filters, optionalFilters, boosts, automaticFacetFilters].some((each) => each?.length)) return true;
  return !rule.validity?.length && rule.objectID > 'default';
}

async function readRules() {
  try {
    listed = await call('POST', `/1/indexes/${encodeURIComponent(index)}/looking-similar/recommend/rules/search`, { hitsPerPage: RULES });
  } catch (error) {
    listed = null;
    $('rules-list').replaceChildren();
    $('rules-about').textContent = error.status === 403 ? 'The admin key shows them (the button “Key”).' : error.status === 404 ? 'This worker holds no rules.' : error.message;
    return;
  }
  const builtIn = !listed.hits.some((rule) => rule.objectID === 'default') && listed.nbHits <= RULES;
  const elements = listed.hits.map((rule) => {
    const state = rule.enabled === false ? 'switched off' : isOpen(rule) ? '' : 'out of season';
    const element = made('li', `rule${state ? ' off' : ''}`, made('h3', '', rule.objectID, made('span', '', state)), made('p', '', rule.description || ''), made('ul', '', ...inWords(rule)));
    element.dataset.rule = rule.objectID;
    element.dataset.state = state;
    return element;
  });
  if (builtIn) {
    const element = made('li', 'rule', made('h3', '', 'default', made('span')), made('p', '', 'built in, until a rule of this name replaces it'),
      made('ul', '', made('li', '', made('span', 'by', '×1.15 '), made('code', '', 'on_sale:true')), made('li', '', made('span', 'by', '×0.7 '), made('code', '', 'low_stock:true'))));
    element.dataset.rule = 'default';
    const after = listed.hits.findIndex(goesAfterBuiltIn);
    elements.splice(after < 0 ? elements.length : after, 0, element);
  }
  $('rules-list').replaceChildren(...elements);
  $('rules-about').textContent = listed.nbHits > RULES ? `The first ${RULES} of ${number(listed.nbHits)}, in the order of precedence.` : listed.nbHits ? 'In the order of precedence.' : '';
  markRules();
}

function markRules() {
  for (const element of $('rules-list').children) {
    const applies = Boolean(source) && applied.includes(element.dataset.rule);
    element.classList.toggle('applies', applies);
    element.querySelector('h3 span').textContent = element.dataset.state || (applies ? 'applied here' : '');
  }
}

// Health

let fresh = null;

function showFresh(watermark) { fresh = watermark || fresh; }

function chip(className, label, value) { return made('li', className, made('b', '', value), label ? ` ${label}` : ''); }

async function readHealth() {
  const chips = [];
  try {
    const { status, waiting_for: waits } = await call('GET', '/readyz');
    chips.push(status === 'ready' ? chip('good', '', 'ready') : chip('bad', Object.entries(waits || {}).map(([stage, why]) => `${stage}: ${why}`).join('; '), 'not ready'));
  } catch (error) { chips.push(chip('bad', error.message, 'away')); }
  for (const [name, each] of Object.entries(fresh || {})) {
    if (!each?.at) continue;
    const late = each.lagMS > 1000;
    const element = chip(late ? 'bad' : '', late ? `${ago(each.lagMS)} behind` : `${ago(Date.now() - each.at)} ago`, name);
    element.title = `The newest change of the ${name} in the answers is of ${new Date(each.at).toLocaleString()}.`;
    chips.push(element);
  }
  $('health').replaceChildren(...chips);
  try {
    const [status, metrics] = await Promise.all([call('GET', '/status'), call('GET', '/metrics')]);
    showWorker(status, metrics);
    $('worker-about').textContent = '';
  } catch (error) {
    $('facts').replaceChildren();
    $('lags').hidden = true;
    $('worker-about').textContent = error.status === 403 ? 'The admin key shows it (the button “Key”).' : error.message;
  }
}

function showWorker(status, metrics) {
  const shards = Object.values(status.stages?.index?.shards || {});
  const sum = (name) => shards.reduce((total, shard) => total + (shard[name] || 0), 0);
  const total = (name) => [...metrics.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce((all, [, value]) => all + Number(value), 0);
  const facts = [];
  const fact = (label, value, small) => facts.push(made('div', '', made('dd', small ? 'small' : '', value), made('dt', '', label)));
  if (shards.length) {
    fact('items in answers', number(sum('items_searchable')));
    fact('pictures', number(sum('rows_searchable')));
    fact('shards', number(shards.length));
  }
  if (status.stages?.serve) fact('rules in force', number(status.stages.serve.rules));
  if (status.stages?.watch) fact('watched lists', number(status.stages.watch.watches));
  fact('dead letters since start', number(total('kindred_dead_letters_total')));
  fact('up', ago(status.up_s * 1000));
  if (status.stages?.index?.model) fact('model', status.stages.index.model, true);
  $('facts').replaceChildren(...facts);
  const lags = [...metrics.matchAll(/^kindred_lag\{([^}]*)\} (\S+)$/gm)].map(([, labels, value]) =>
    [...['stage', 'topic'].map((name) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] || ''), Number(value)]);
  $('lag-rows').replaceChildren(...lags.map(([stage, topic, value]) =>
    made('tr', '', made('td', '', stage), made('td', '', topic), made('td', `number${value ? ' waits' : ''}`, number(value)))));
  $('lags').hidden = !lags.length;
}
