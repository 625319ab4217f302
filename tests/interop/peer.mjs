// The same as peer.c, over zeromq.js: node peer.mjs ROLE ENDPOINT COUNT MECHANISM [KEY...]
import { createRequire } from "node:module";
import { once } from "node:events";

const require = createRequire(process.env.NODE_MODULES_OF + "/");
const zmq = require("zeromq");

const [role, endpoint, words, mechanism, ...keys] = process.argv.slice(2);
const count = Number(words);
const isServer = role === "rep" || role === "router";
const Kind = { req: zmq.Request, dealer: zmq.Dealer, rep: zmq.Reply, router: zmq.Router }[role];

const security = {
  null: () => ({}),
  plain: () =>
    isServer ? { plainServer: true } : { plainUsername: keys[0], plainPassword: keys[1] },
  curve: () =>
    isServer
      ? { curveServer: true, curveSecretKey: keys[0] }
      : { curveServerKey: keys[0], curvePublicKey: keys[1], curveSecretKey: keys[2] },
}[mechanism]();

const socket = new Kind({ linger: 1000, receiveTimeout: 20000, sendTimeout: 20000, ...security });

const request = (number) => [`request ${number}`, "body"];
const isReply = (frames, number) =>
  frames.length === 2 && frames[0].toString() === `REQUEST ${number}` && frames[1].toString() === "BODY";
const upper = (frame) => frame.toString().toUpperCase();

async function askInTurn() {
  let right = 0;
  for (let number = 0; number < count; number++) {
    await socket.send(request(number));
    right += isReply(await socket.receive(), number);
  }
  return right;
}

async function askAtOnce() {
  const missing = new Set();
  for (let number = 0; number < count; number++) {
    missing.add(number);
    await socket.send([`c-${number}`, "", ...request(number)]);
  }
  while (missing.size) {
    const [correlation, delimiter, ...payload] = await socket.receive();
    const number = Number(correlation.toString().slice(2));
    if (delimiter.length || !isReply(payload, number) || !missing.delete(number)) break;
  }
  return count - missing.size;
}

// What libzmq asks of each client, by RFC 27.
async function openDoor() {
  const door = new zmq.Reply();
  await door.bind("inproc://zeromq.zap.01");
  for await (const [version, id, , , , mechanism, user, password] of door) {
    const mayEnter = `${mechanism} ${user} ${password}` === `PLAIN ${keys[0]} ${keys[1]}`;
    await door.send([version, id, mayEnter ? "200" : "400", "", user, ""]);
  }
}

let answered = 0;

async function answer() {
  for await (const frames of socket) {
    const begins = role === "rep" ? 0 : frames.findIndex((frame) => !frame.length) + 1;
    await socket.send([...frames.slice(0, begins), ...frames.slice(begins).map(upper)]);
    answered++;
  }
}

if (isServer) {
  if (mechanism === "plain") openDoor();
  await socket.bind(endpoint);
  console.log(socket.lastEndpoint);
  const answering = answer();
  process.stdin.resume();
  await once(process.stdin, "end");
  socket.close();
  await answering;
  console.log(answered);
} else {
  socket.connect(endpoint);
  console.log(role === "req" ? await askInTurn() : await askAtOnce());
  socket.close();
}
process.exit(0);
