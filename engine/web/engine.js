// The engine as JavaScript sees it, in a browser or node. What emcc makes of the C interface, bcdzooModule, is in front
// of it.
//
//   const engine = await bcdzoo();
//   const network = engine.load(bytes);            // a Uint8Array: a plan file (net.bcz)
//   const logits = network.runPixels(network.prepared(imageData));
//   network.free();
//
// What cannot be used throws an Error with a message of one line. One image is run at a time, on one thread.

const LARGEST_IMAGE = 1 << 26; // pixels, before or after resizing
const LARGEST_SIDE = 2048;

// What a plan says about resizing.
const geometryOf = (preprocess) => {
  const values = new Map(preprocess.split(",").map((item) => item.split("=")));
  const whole = (key) => (/^\d{1,9}$/.test(values.get(key)) ? Number(values.get(key)) : 0);
  const [resize, crop, interpolation] = [whole("resize"), whole("crop"), values.get("interpolation")];
  if (!(crop > 0 && crop <= resize && resize <= LARGEST_SIDE))
    throw new Error("this plan does not say how pictures are prepared: make it again with `bcdzoo export`");
  if (!FILTERS[interpolation])
    throw new Error("this plan's pictures are resized in a way that is not done here: bilinear and bicubic are");
  return { resize, crop, ...FILTERS[interpolation] };
};

const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
const FILTERS = {
  bilinear: { reach: 1, weigh: (x) => (x < 1 ? 1 - x : 0) },
  bicubic: { reach: 2, weigh: cubic },
};
const BITS = 22; // behind the point of a weight

// Weights of the pixels that each new pixel is made of: as Pillow's, because networks were trained with those.
const weightsOf = (from, to, { reach, weigh }) => {
  const scale = Math.max(from / to, 1);
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * (from / to);
    const first = Math.max(Math.trunc(center - reach * scale + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach * scale + 0.5), from);
    const weights = [];
    for (let x = first; x < end; ++x) weights.push(weigh(Math.abs((x - center + 0.5) / scale)));
    const sum = weights.reduce((all, one) => all + one, 0);
    return { first, weights: weights.map((one) => Math.trunc((one / sum) * (1 << BITS) + Math.sign(one) / 2)) };
  });
};

// Resizes rows [top, bottom) of an image of `width` RGB pixels sideways, and turns it on its side: applied twice it is
// upright again.
const resizedAndTurned = (pixels, width, height, to, filter) => {
  const out = new Uint8ClampedArray(3 * to * height);
  const all = to === width ? null : weightsOf(width, to, filter);
  for (let y = 0; y < height; ++y)
    for (let x = 0; x < to; ++x)
      for (let c = 0; c < 3; ++c) {
        const at = 3 * (x * height + y) + c;
        if (!all) {
          out[at] = pixels[3 * (y * width + x) + c];
          continue;
        }
        const { first, weights } = all[x];
        let sum = 1 << (BITS - 1);
        for (let i = 0; i < weights.length; ++i) sum += pixels[3 * (y * width + first + i) + c] * weights[i];
        out[at] = sum >> BITS;
      }
  return out;
};

// The nearest whole number, of two the even one.
const rounded = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// Names (or numbers, if there are none) and probabilities of the likeliest classes.
const likeliest = (network, logits, top) => {
  const largest = Math.max(...logits);
  const odds = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = odds.reduce((all, one) => all + one, 0);
  return Array.from(odds, (odd, i) => ({ name: network.classes[i] ?? `class ${i}`, probability: odd / sum }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, top);
};

const bcdzoo = async () => {
  const Module = await bcdzooModule();

  const textAt = (at) => {
    let end = at;
    while (Module.HEAPU8[end]) ++end;
    return new TextDecoder().decode(Module.HEAPU8.slice(at, end));
  };

  // Calls something with room for bcdzoo_error and for a copy of each array, which are freed behind it; the last argument
  // of the C function is the error, and what it returns a status.
  const withRoom = (arrays, call) => {
    const places = [];
    const room = (size) => {
      const at = Module._malloc(Math.max(size, 1));
      if (!at) throw new Error("out of memory");
      places.push(at);
      return at;
    };
    try {
      const error = room(512);
      const at = arrays.map((array) => room(array.byteLength));
      arrays.forEach((array, i) =>
        Module.HEAPU8.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at[i]));
      const status = call(at, error);
      if (status) throw new Error(textAt(error + 4));
      return at.map((place, i) => Module.HEAPU8.slice(place, place + arrays[i].byteLength));
    } finally {
      places.forEach((at) => Module._free(at));
    }
  };

  class Network {
    constructor(bytes) {
      const pointer = new Uint8Array(4);
      const [, at] = withRoom([bytes, pointer], (at, error) =>
        Module._bcdzoo_load_memory(at[0], bytes.length, at[1], error));
      this.at = new DataView(at.buffer).getUint32(0, true);
      this.model = textAt(Module._bcdzoo_model(this.at));
      this.preprocess = textAt(Module._bcdzoo_preprocess(this.at));
      for (const fact of ["channels", "height", "width", "outputs"]) this[fact] = Module[`_bcdzoo_${fact}`](this.at);
      this.classes = [];
      for (let at; this.classes.length < this.outputs && (at = Module._bcdzoo_class_name(this.at, this.classes.length));)
        this.classes.push(textAt(at));
    }

    free() {
      Module._bcdzoo_free(this.at);
      this.at = 0;
    }

    // Logits of an image: a Float32Array (channels, height, width), preprocessed as the network expects.
    run(image, instructions) {
      return this._logits(Module._bcdzoo_run, image, this.channels * this.height * this.width, instructions);
    }

    // Logits of an image: a Uint8Array (height, width, 3) of red, green and blue.
    runPixels(pixels, instructions) {
      return this._logits(Module._bcdzoo_run_pixels, pixels, 3 * this.height * this.width, instructions);
    }

    _logits(run, image, size, instructions) {
      if (image.length !== size) throw new Error(`this network's images have ${size} numbers, not ${image.length}`);
      const name = new TextEncoder().encode(`${instructions ?? ""}\0`);
      const [, logits] = withRoom([image, new Float32Array(this.outputs), name], (at, error) =>
        run(this.at, at[0], 1, at[1], 1, instructions ? at[2] : 0, error));
      return new Float32Array(logits.buffer);
    }

    // Pixels of an image of any size ({data, width, height} with red, green, blue and alpha, as a canvas gives it),
    // resized and cropped as the plan says. Alpha is dropped.
    prepared({ data, width, height }) {
      const geometry = geometryOf(this.preprocess);
      const { resize, crop } = geometry;
      const other = Math.trunc((resize * Math.max(width, height)) / Math.min(width, height));
      if (!(width * height <= LARGEST_IMAGE && resize * other <= LARGEST_IMAGE))
        throw new Error(`a picture of ${width} x ${height} pixels is too large, or too narrow to be resized`);
      const [wide, high] = width <= height ? [resize, other] : [other, resize];
      let pixels = new Uint8Array(3 * width * height);
      for (let i = 0; i < pixels.length; ++i) pixels[i] = data[4 * Math.trunc(i / 3) + (i % 3)];
      pixels = resizedAndTurned(pixels, width, height, wide, geometry);
      pixels = resizedAndTurned(pixels, height, wide, high, geometry);
      const [left, top] = [rounded((wide - crop) / 2), rounded((high - crop) / 2)];
      const out = new Uint8Array(3 * crop * crop);
      for (let y = 0; y < crop; ++y)
        out.set(pixels.subarray(3 * ((top + y) * wide + left), 3 * ((top + y) * wide + left + crop)), 3 * y * crop);
      return out;
    }
  }

  return {
    load: (bytes) => new Network(bytes),
    likeliest,
    memory: () => Module.HEAPU8.length, // bytes that it has taken until now
    instructions: () => {
      const names = [];
      for (let at; (at = Module._bcdzoo_instructions(names.length)); ) names.push(textAt(at));
      return names;
    },
  };
};

if (typeof module !== "undefined") module.exports = bcdzoo;
