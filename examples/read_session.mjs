// A session of the OpenAI Agents SDK that SwarmStateSession keeps in Redis, read from Node.
//
//   npm install @msgpack/msgpack ioredis
//   node read_session.mjs redis://localhost:6379/0 customer-1
//
// A namespace is a hash, {prefix}:{namespace}; each item is a field of 16 digits, in order.

import { decode } from "@msgpack/msgpack";
import Redis from "ioredis";

const [url = "redis://localhost:6379/0", session = "customer-1", prefix = "swarmstate"] =
  process.argv.slice(2);
const redis = new Redis(url);
const entries = await redis.hgetallBuffer(`${prefix}:openai-agents:${session}`);
for (const key of Object.keys(entries).filter((key) => /^\d{16}$/.test(key)).sort()) {
  const item = decode(entries[key]);
  console.log(`${item.role}: ${item.content}`);
}
await redis.quit();
