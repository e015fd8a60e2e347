// Cards

function price(record) {
  const now = [record.sale_price, record.price].find((value) => typeof value === 'number');
  if (now === undefined) return null;
  const line = made('div', 'price', money(now));
  const before = [record.list_price, record.price].find((value) => typeof value === 'number' && value > now);
  if (record.on_sale && before) { line.classList.add('reduced'); line.append(made('s', '', money(before))); }
  return line;
}

function badges(record, ranked) {
  const line = made('div', 'badges');
  if (record.on_sale) line.append(made('span', 'badge sale', record.discount > 0 ? `sale −${Math.round(record.discount * 100)} %` : 'sale'));
  if (record.out_of_stock) line.append(made('span', 'badge', 'out of stock'));
  else if (record.low_stock) line.append(made('span', 'badge low', typeof record.stock === 'number' ? `last ${number(record.stock)}` : 'runs low'));
  else if (typeof record.stock === 'number') line.append(made('span', 'badge stock', `${number(record.stock)} in stock`));
  if (ranked && record._source !== 'model') line.append(made('span', 'badge', record._source));
  return line;
}

// What a step did, and to whom: a hit moves also because others are left out, or moved past it

function stepInWords(each) {
  const by = each.rule ? `rule ${each.rule}` : `${each.by}`, what = `${each.what || ''}`;
  if (each.factor !== undefined) return [by, what];
  if (each.by === 'pin') return [by, 'pinned here'];
  if (each.by === 'fallback' || each.by === 'diversity') return [by, what || 'fills up'];
  return ['others', { stock: 'out of stock', pins: 'pinned' }[each.by] || `${by} ${what}`];
}

function step(each) {
  const [before, after] = each.rank || [];
  const [by, what] = stepInWords(each);
  const line = made('li', '', made('span', 'by', `${by}: `), what);
  if (each.factor !== undefined) line.append(` ×${number(each.factor, 3)}`);
  if (each.score) line.append(made('span', 'by', ` (${number(each.score[0], 1)} → ${number(each.score[1], 1)})`));
  if (typeof after === 'number') {
    const up = before === null || before > after;
    line.append(' ', made('span', before === after ? 'by' : up ? 'up' : 'down', `place ${before ?? '1,000+'} → ${after}`));
  }
  return line;
}

function reasons(hit) {
  const why = hit._explain;
  if (!why) return null;
  const list = made('ul');
  const matched = why.matched;
  if (matched) list.append(made('li', '', made('span', 'by', 'looks like '), matched.sourceImage && matched.sourceImage !== matched.source ? `${matched.sourceImage} of ${matched.source}` : String(matched.source)));
  if (why.walk) list.append(made('li', '', made('span', 'by', 'come to from '), String(why.walk.from)));
  list.append(...(why.steps || []).map(step));
  const factors = (why.steps || []).filter((each) => each.factor !== undefined).map((each) => `${each.what} ×${number(each.factor, 2)}`);
  const told = { pin: 'pinned by a rule', fallback: 'fills up' }[hit._source] || factors.join(', ') || 'its look';
  return [told, list];
}

function newCard(record, ranked) {
  const card = made('li', 'card');
  const pick = made('button', 'pick');
  pick.type = 'button';
  pick.dataset.item = record.objectID;
  const shown = made('div', 'picture', made('span', 'rank'), made('span', 'shift'));
  const text = made('div', 'text');
  pick.append(shown, text);
  card.append(pick);
  if (ranked) {
    const details = made('details', '', made('summary'), made('div'));
    card.append(details);
  }
  return card;
}

function fill(card, record, rank, before) {
  picture(card.querySelector('.picture'), record);
  const place = card.querySelector('.rank'), shift = card.querySelector('.shift');
  place.hidden = rank === null;
  place.textContent = rank === null ? '' : `${rank}`;
  const by = before ? before - rank : 0;
  shift.hidden = !by;
  shift.className = `shift ${by > 0 ? 'up' : 'down'}`;
  shift.textContent = by ? `${by > 0 ? '▲' : '▼'} ${Math.abs(by)}` : '';
  const parts = [made('div', 'name', titleOf(record)), made('div', 'id', record.objectID), price(record), badges(record, rank !== null)];
  if (rank !== null && typeof record._score === 'number' && record._source !== 'fallback') {
    const scores = made('div', 'scores', made('span', '', 'looks ', made('b', '', number(record._score, 1))));
    if (Math.abs(record._rankScore - record._score) > 0.005) scores.append(made('span', '', 'ranks ', made('b', '', number(record._rankScore, 1))));
    const fillOf = made('i');
    fillOf.style.width = `${Math.min(100, Math.max(0, record._score))}%`;
    parts.push(scores, made('div', 'bar', fillOf));
  }
  card.querySelector('.text').replaceChildren(...parts.filter(Boolean));
  const details = card.querySelector('details');
  if (details) {
    const why = reasons(record);
    details.hidden = !why;
    if (why) {
      details.querySelector('summary').textContent = `why: ${why[0]}`;
      details.lastElementChild.replaceChildren(why[1]);
    }
  }
}

function inText(value) {
  if (Array.isArray(value) && value.every((each) => typeof each !== 'object')) return value.join(', ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function showHits(hits, ranked) {
  const list = $('hits');
  const was = new Map([...list.children].map((card, place) => [card.firstElementChild.dataset.item, place + 1]));
  const same = cards.of === source?.objectID && ranked;
  const next = new Map();
  hits.forEach((hit, place) => {
    const kept = same && cards.get(hit.objectID);
    const card = kept || newCard(hit, ranked);
    const before = kept ? was.get(hit.objectID) : null;
    fill(card, hit, ranked ? place + 1 : null, before);
    card.classList.toggle('moved', Boolean(same && was.size && before !== place + 1));
    next.set(hit.objectID, card);
  });
  const focused = document.activeElement;
  [...next.values()].forEach((card, place) => { if (list.children[place] !== card) list.insertBefore(card, list.children[place] || null); });
  while (list.children.length > next.size) list.lastElementChild.remove();
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  next.of = source?.objectID;
  cards = next;
}

function showSource() {
  $('source').hidden = !source;
  if (!source) return;
  const host = $('source-card');
  if (host.firstElementChild?.firstElementChild?.dataset.item !== source.objectID) host.replaceChildren(newCard(source, false));
  const card = host.firstElementChild;
  fill(card, source, null, null);
  card.querySelector('dl')?.remove();
  const facts = made('dl');
  for (const [name, value] of Object.entries(source)) {
    if (KNOWN.has(name) || name.startsWith('_') || value === null) continue;
    facts.append(made('dt', '', name), made('dd', '', inText(value)));
  }
  if (facts.children.length) card.append(facts);
}
