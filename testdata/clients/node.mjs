// Node's own clients: fetch (undici), FormData, https and http2.
import https from "node:https";
import http2 from "node:http2";
import {gzipSync} from "node:zlib";
import {readFileSync} from "node:fs";

const base = process.env.EDGE_URL, ca = readFileSync(process.env.EDGE_CA);

function check(name, got, wanted) {
  if (!got.includes(wanted)) throw new Error(`${name}: ${got}, without ${wanted}`);
  console.log("ok", name);
}

const text = async (path, init) => (await fetch(base + path, init)).text();
const json = {"Content-Type": "application/json"};

for (const name of ["Résumé.pdf", "契約書.pdf", "O'Brien & Søn 50 %.pdf"]) {
  const form = new FormData();
  form.append("note", "ünïcode 🎉");
  form.append("document", new Blob(["%PDF-1.7"], {type: "application/pdf"}), name);
  check(name, await text("/form", {method: "POST", body: form}), `file document: ${name}, 8 bytes`);
}
const quoted = new FormData();
quoted.append("document", new Blob(["x"]), 'a "b".pdf');
check("a quote in a name", await text("/form", {method: "POST", body: quoted}), "1 bytes");
check("json", await text("/json", {method: "PUT", headers: json, body: '{"note":"50 % 🎉"}'}), "50 %");
check("gzip", await text("/json", {method: "POST", headers: {...json, "Content-Encoding": "gzip"}, body: gzipSync('{"note":"é"}')}), "note");
const stream = new ReadableStream({start(c) { for (let i = 0; i < 50; i++) c.enqueue(new Uint8Array(10000)); c.close(); }});
check("stream", await text("/upload", {method: "PUT", headers: {"Content-Type": "application/octet-stream"}, body: stream, duplex: "half"}), "body: 500000 bytes");

const agent = new https.Agent({keepAlive: true, ca});
const send = (path, options, ...pieces) => new Promise((done, failed) => {
  const req = https.request(base + path, {agent, ...options}, res => {
    let body = "";
    res.on("data", d => body += d).on("end", () => done(res.statusCode + " " + body));
  }).on("error", failed);
  for (const piece of pieces) req.write(piece);
  req.end();
});
for (const n of [1, 2, 3]) check("https " + n, await send("/json", {method: "POST", headers: json}, '{"a":', '"b"}'), '"b"');
check("expect", await new Promise((done, failed) => {
  const req = https.request(base + "/json", {agent, method: "POST", headers: {...json, Expect: "100-continue", "Content-Length": 9}}, res => {
    res.on("data", d => done(String(d)));
  }).on("error", failed).on("continue", () => req.end('{"a":"c"}'));
  req.flushHeaders();
}), '"c"');
agent.destroy();

const session = http2.connect(base, {ca});
check("http2", await new Promise((done, failed) => {
  let body = "";
  session.on("error", failed);
  session.request({":method": "POST", ":path": "/json", "content-type": "application/json"}).on("data", d => body += d).on("end", () => done(body)).end('{"a":"d"}');
}), '"d"');
session.close();
process.exit(0); // fetch keeps its connections
