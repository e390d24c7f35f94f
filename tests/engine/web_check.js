// Runs what cases.json lists, and says of which cases a set of kernels gives other bits than their .out file has. In
// node: node web_check.js FOLDER; a page calls checkAll.
const checkAll = async (bcdzoo, read) => {
  const engine = await bcdzoo(), wrong = [];
  const cases = JSON.parse(new TextDecoder().decode(await read("cases.json")));
  for (const { name, pixels } of cases) {
    const network = engine.load(await read(`${name}.bcz`)), input = await read(`${name}.in`);
    const expected = new Uint32Array((await read(`${name}.out`)).buffer);
    for (const instructions of engine.instructions()) {
      const logits = pixels
        ? network.runPixels(input, instructions)
        : network.run(new Float32Array(input.buffer), instructions);
      const got = new Uint32Array(logits.buffer);
      const differing = expected.reduce((all, bits, i) => all + (got[i] !== bits), 0);
      if (got.length !== expected.length || differing)
        wrong.push({ name, instructions, differing, of: expected.length });
    }
    network.free();
  }
  return { cases: cases.length, sets: engine.instructions(), wrong };
};

if (typeof require !== "undefined") {
  const { readFileSync } = require("fs");
  const folder = process.argv[2];
  checkAll(require(`${folder}/bcdzoo.js`), (name) => new Uint8Array(readFileSync(`${folder}/${name}`))).then((said) =>
    console.log(JSON.stringify(said)));
}
