// Two instances of the program of docs/clients.md in one group, asked at the same time once each has its partition.
import 'reflect-metadata';
import { setTimeout } from 'node:timers/promises';
import { NestFactory } from '@nestjs/core';
import { ClientKafka } from '@nestjs/microservices';
import { SimilarItems, SimilarModule } from './similar-items.js';

const QUESTIONS = 20;
const application = await NestFactory.createApplicationContext(SimilarModule, { logger: ['error'] });
const first = application.get(SimilarItems);
const second = new SimilarItems(new ClientKafka(first.kafka['options'])); // a second context of the module would share its client
await second.onModuleInit();

const clients = [first, second];
const assigned = () => new Set(clients.flatMap((client) => Object.values(client.kafka.getConsumerAssignments())));
while (assigned().size < 2) await setTimeout(20);
// A partition that was just assigned is read from its end, which is looked up some time later: see that it was.
for (const client of clients) while (!(await client.ask({ objectID: 'lamp-001' }, 500).catch(() => null)));

const replies = await Promise.all(
  clients.flatMap((client) =>
    Array.from({ length: QUESTIONS }, (_, n) => client.ask({ objectID: 'lamp-001', maxRecommendations: n + 1 }, 10_000)),
  ),
);
console.log(JSON.stringify(replies.map((reply) => reply.hits.length)));
await second.kafka.close();
await application.close();
