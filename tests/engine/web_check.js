// Runs what cases.json lists, and says of which cases a set of kernels gives other bits than their .out file has. In
// node: node web_check.js FOLDER; a page calls checkAll.
const checkAll = async (bcdzoo, read) => {
  const engine = await bcdzoo(), wrong = [], times = {};
  const cases = JSON.parse(new TextDecoder().decode(await read("cases.json")));
  for (const { name, pixels, repeats } of cases) {
    const network = engine.load(await read(`${name}.bcz`)), input = await read(`${name}.in`);
    const expected = new Uint32Array((await read(`${name}.out`)).buffer);
    for (const instructions of engine.instructions()) {
      const run = () =>
        pixels ? network.runPixels(input, instructions) : network.run(new Float32Array(input.buffer), instructions);
      const got = new Uint32Array(run().buffer);
      const differing = expected.reduce((all, bits, i) => all + (got[i] !== bits), 0);
      if (got.length !== expected.length || differing)
        wrong.push({ name, instructions, differing, of: expected.length });
      for (let i = 0; i < repeats; ++i) {
        const start = performance.now();
        for (let k = 0; k < 20; ++k) run();
        const time = (performance.now() - start) / 20;
        times[`${name} ${instructions}`] = Math.min(times[`${name} ${instructions}`] ?? Infinity, time);
      }
    }
    network.free();
  }
  return { cases: cases.length, sets: engine.instructions(), wrong, times, memory: engine.memory() };
};

if (typeof require !== "undefined") {
  const { readFileSync } = require("fs");
  const folder = process.argv[2];
  checkAll(require(`${folder}/bcdzoo.js`), (name) => new Uint8Array(readFileSync(`${folder}/${name}`))).then((said) =>
    console.log(JSON.stringify(said)));
}
