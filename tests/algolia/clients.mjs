// Algolia's own clients, unmodified, asked to do one thing; what came of it is printed as JSON.
//
//     GATEWAY=127.0.0.1:6066 SEARCH_KEY=... ADMIN_KEY=... node clients.mjs SCENARIO
//
// A call that fails is printed as {error: {name, message, status}}.

import { algoliasearch } from 'algoliasearch';
import { liteClient } from 'algoliasearch/lite';
import recommendV4 from 'recommend-v4';

const { GATEWAY, SEARCH_KEY, ADMIN_KEY } = process.env;
const [url, port] = GATEWAY.split(':');
const hosts = [{ url, port: Number(port), protocol: 'http', accept: 'readWrite' }];
const model = 'looking-similar';
const indexName = 'items';

const lite = (key = SEARCH_KEY, options = {}) => liteClient('any', key, { hosts, ...options });
const recommend = (key = ADMIN_KEY) => algoliasearch('any', key).initRecommend({ options: { hosts } });
const entry = (objectID, more = {}) => ({ indexName, model, objectID, threshold: 0, maxRecommendations: 5, ...more });
const failed = (error) => ({ error: { name: error.name, message: error.message, status: error.status } });
const outcome = (promise) => promise.catch(failed);

async function published(client, taskID) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const { status } = await client.getRecommendStatus({ indexName, model, taskID });
    if (status === 'published') return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

const scenarios = {
  async lite() {
    const several = { requests: [entry('shop/item 0'), entry('nobody'), entry('shop/item 1', { queryParameters: { filters: 'price < 10' } })] };
    return {
      several: await outcome(lite().getRecommendations(several)),
      array: await outcome(lite().getRecommendations(several.requests.slice(0, 1))),
      unknown: await outcome(lite().getRecommendations({ requests: [entry('nobody')] })),
      inUrl: await outcome(lite(SEARCH_KEY, { authMode: 'WithinQueryParameters' }).getRecommendations(several)),
      search: await outcome(lite().search({ requests: [{ indexName, query: 'x', hitsPerPage: 3 }] })),
    };
  },

  async packed() {
    const requests = Array.from({ length: 30 }, (_, number) => entry(`shop/item ${number % 24}`));
    return outcome(lite(SEARCH_KEY, { compression: 'gzip' }).getRecommendations({ requests }));
  },

  async mistakes() {
    const bad = { queryParameters: { filters: 'price < 10 AND' } };
    return {
      filter: await outcome(lite().getRecommendations({ requests: [entry('shop/item 0', bad)] })),
      mixed: await outcome(lite().getRecommendations({ requests: [entry('shop/item 0', bad), entry('shop/item 1')] })),
      key: await outcome(lite('wrong').getRecommendations({ requests: [entry('shop/item 0')] })),
      index: await outcome(lite().getRecommendations({ requests: [entry('shop/item 0', { indexName: 'other' })] })),
      searchKeyOnRules: await outcome(recommend(SEARCH_KEY).searchRecommendRules({ indexName, model })),
      rule: await outcome(
        recommend().batchRecommendRules({ indexName, model, recommendRule: [{ objectID: 'r', condition: { filters: '(' } }] }),
      ),
      noRule: await outcome(recommend().getRecommendRule({ indexName, model, objectID: 'none' })),
    };
  },

  async rules() {
    const client = recommend();
    const before = await client.getRecommendations({ requests: [entry('shop/item 2')] });
    const [first] = before.results[0].hits;
    const rule = { objectID: 'a/b c%', description: 'hide', consequence: { hide: [{ objectID: first.objectID }] } };
    const written = await client.batchRecommendRules({ indexName, model, recommendRule: [rule] });
    const inForce = await published(client, written.taskID);
    const after = await client.getRecommendations({ requests: [entry('shop/item 2')] });
    const found = await client.searchRecommendRules({ indexName, model });
    const one = await client.getRecommendRule({ indexName, model, objectID: rule.objectID });
    const deleted = await client.deleteRecommendRule({ indexName, model, objectID: rule.objectID });
    await published(client, deleted.taskID);
    const restored = await client.getRecommendations({ requests: [entry('shop/item 2')] });
    const cleared = await client.batchRecommendRules(
      { indexName, model, recommendRule: [] },
      { queryParameters: { clearExistingRules: true } },
    );
    const none = await client.batchRecommendRules({ indexName, model });
    return { before, rule, written, inForce, after, found, one, deleted, restored, cleared, none };
  },

  async v4() {
    const client = recommendV4('any', SEARCH_KEY, { hosts: [{ url: GATEWAY, protocol: 'http' }] });
    const wrong = recommendV4('any', 'wrong', { hosts: [{ url: GATEWAY, protocol: 'http' }] });
    return {
      similar: await outcome(client.getLookingSimilar([{ indexName, objectID: 'shop/item 0', maxRecommendations: 5 }])),
      key: await outcome(wrong.getLookingSimilar([{ indexName, objectID: 'shop/item 0' }])),
    };
  },
};

const scenario = scenarios[process.argv[2]];
process.stdout.write(JSON.stringify(await scenario().catch(failed)));
