#include <algorithm>
#include <numeric>

#include "builder.h"

namespace bcdzoo {
namespace {

// Bits where a comparison falls, so that they are the other way round.
Dwords falling(const Constant& falls, int channels) {
  Dwords made(ceil_div(channels, 32), 0);
  for (int c = 0; c < channels; ++c)
    if (falls.floats[falls.count() == 1 ? 0 : c] != 0.0f) made[c / 32] |= 1u << (c % 32);
  return made;
}

Floats scales_of(const Constant& scale, int first, int count) {
  Floats made(round_up(count, kPanel), 0.0f);
  std::copy_n(scale.floats + first, count, made.begin());
  return made;
}

}  // namespace

// Makes the bits that later convolutions read of what an operation (-1: the image) gives, unless it does so itself.
void Builder::write_bits(int maker) {
  if (known_.is_unit(maker)) return;
  for (const auto& [reader, origin] : known_.bit_readers(maker + 1)) {
    begin_bits(reader);
    BitsTask* const task = add_bits(reader, place(maker + 1), 0, origin.first);
    task->threshold = thresholds(reader, origin.first, origin.count);
  }
}

Floats Builder::thresholds(int unit, int first, int count) const {
  const float* const all = operation(unit).constant("threshold").floats;
  Floats mine(round_up(count, 32), INFINITY);
  std::copy_n(all + first, count, mine.begin());
  return mine;
}

std::shared_ptr<BitMap> Builder::bit_map(int i) {
  const Shape& in = shape(input(i));
  const Sliding sliding = known_.sliding_of(i);
  auto map = std::make_shared<BitMap>();
  map->dwords = operation(i).whole("groups") * known_.group_dwords(i);
  map->planes = in.levels() * (known_.is_low_bit(i) ? known_.levels_of(i)->planes : 1);
  map->height = in.height();
  map->width = in.width();
  map->top = sliding.before[0];
  map->left = sliding.before[1];
  map->bottom = sliding.behind[0];
  map->right = sliding.behind[1];
  spend(int64_t{map->height} * map->width);
  map->pixel_at.reserve(static_cast<size_t>(map->height) * map->width);
  for (int y = 0; y < map->height; ++y)
    for (int x = 0; x < map->width; ++x)
      map->pixel_at.push_back(((y + map->top) * map->padded_width() + x + map->left) * map->dwords);
  return map;
}

// Gives the bits of a convolution their memory, before anybody writes them.
BitMap& Builder::begin_bits(int i) {
  if (bits_[i]) return *bits_[i];
  bits_[i] = bit_map(i);
  BitMap& map = *bits_[i];
  map.slot = new_slot();
  set_numbers(*map.slot, map.plane_dwords() * map.planes);
  if (map.top || map.left || map.bottom || map.right) {
    BorderTask* const task = add<BorderTask>(1, false);
    task->to = bits_[i];
    task->first = true;
    task->writes = {map.slot};
  }
  return map;
}

BitsTask* Builder::add_bits(int i, const Place& from, int plane, int channel) {
  BitsTask* const task = add<BitsTask>(bits_[i]->height);
  task->from = from;
  task->to = bits_[i];
  task->first_plane = plane;
  task->first_dword = channel / 32;
  task->reads = {from.slot};
  task->writes = {bits_[i]->slot};
  task->row_bytes = 4 * padded(from.shape.channels()) * from.shape.width();
  return task;
}

// Bits of a unit whose thresholds are given for each image, or whose input's channels or groups do not begin at dwords.
void Builder::add_own_bits(int i) {
  begin_bits(i);
  const int channels = shape(input(i)).channels();
  if (known_.spreads_groups(i)) {
    const int count = known_.group_in(i);
    for (int first = 0, dword = 0; first < channels; first += count, dword += known_.group_dwords(i)) {
      Place group = place(input(i));
      group.channel += first;
      group.shape.sizes[0] = count;
      add_bits(i, group, 0, 32 * dword)->threshold = thresholds(i, first, count);
    }
    return;
  }
  const Place limits = given(i, "threshold", channels);
  BitsTask* const task = add_bits(i, place(input(i)), 0, 0);
  if (limits.slot) {
    task->limits = limits;
    reads(task, limits);
  } else {
    task->threshold = thresholds(i, 0, channels);
  }
}

// An input that a unit may have, one number of each channel; there may be one for all.
Place Builder::given(int i, const char* role, int channels) {
  return has_input(i, role) ? expanded(place(input(i, role)), channels) : Place();
}

void Builder::emit_unit(int i) {
  const Operation& op = operation(i);
  const int outputs = known_.c_out(i);
  if (known_.bit_origins(i).empty()) add_own_bits(i);
  const Place gate = given(i, "gate", outputs), offset = given(i, "offset", outputs);
  Shape computed = shape(i + 1);
  computed.sizes[0] = outputs;
  int repeats = 0;
  const Place shortcut = shortcut_of(i, computed, repeats);
  const Place to = known_.wants_floats(i + 1) ? unit_output(i, computed, shortcut) : Place();
  for (const auto& [reader, origin] : known_.bit_readers(i + 1)) begin_bits(reader);
  UnitTask* const task = add<UnitTask>(computed.height());
  task->to = to;
  task->shortcut = shortcut;
  task->shortcut_channels = repeats;
  task->gate = gate;
  task->offset = offset;
  BinaryConv& conv = task->conv;
  conv.c_out = outputs;
  set_up(task, i);
  add_terms(task, i);
  const int all = conv.padded_out();
  conv.inner_slope = constants_of(op, "inner_slope", outputs, all);
  conv.alpha = constants_of(op, "alpha", outputs, all);
  conv.beta = constants_of(op, "beta", outputs, all);
  conv.shift_in = constants_of(op, "shift_in", outputs, all);
  conv.slope = constants_of(op, "slope", outputs, all);
  conv.shift_out = constants_of(op, "shift_out", outputs, all);
  conv.activation_first = op.whole("activation_first") != 0;
  conv.limit = op.real("limit");
  add_readers(task, i);
  if (!to.slot) return;
  gives(task, to);
  set(i + 1, {to.slot, 0, shape(i + 1)});
}

// The bits that a unit writes for those who read them.
void Builder::add_readers(UnitTask* task, int i) {
  for (const auto& [reader, origin] : known_.bit_readers(i + 1)) {
    Floats mine = thresholds(reader, origin.first, origin.count);
    mine.resize(round_up(known_.c_out(i), 32), INFINITY);  // its last channels may be written over before they are read
    task->readers.push_back({bits_[reader], origin.first / 32, std::move(mine)});
    task->writes.push_back(bits_[reader]->slot);
  }
}

// What a unit's shortcut reads; `repeats`: after so many channels it begins again.
Place Builder::shortcut_of(int i, const Shape& out, int& repeats) {
  if (known_.has_shortcut(i, "same")) {
    Place last = place(input(i));  // those channels that the unit adds to
    last.channel += last.shape.channels() - out.channels();
    last.shape = out;
    return last;
  }
  if (known_.has_shortcut(i, "given")) return place(input(i, "shortcut"));
  if (known_.has_shortcut(i, "average-pool")) {
    Pooling halving;
    halving.is_max = false;
    for (int axis = 0; axis < 2; ++axis) halving.kernel[axis] = halving.stride[axis] = 2;
    return add_pool(halving, input(i), out);
  }
  if (known_.has_shortcut(i, "duplicate")) {
    const Place& at = place(input(i));
    if (at.shape.channels() % kPanel) return add_concat({at, at}, out);
    repeats = at.shape.channels();
    return at;
  }
  return {};
}

// Where a unit writes: into its input's map or behind it, over its shortcut, or anew.
Place Builder::unit_output(int i, const Shape& computed, const Place& shortcut) {
  const bool appends = known_.appends(i);
  if (appends || known_.adds_to_last(i)) {
    const int c_in = shape(input(i)).channels(), first = appends ? c_in : c_in - known_.c_out(i);
    Place map = place(input(i));
    const bool is_tip = map.channel == 0 && map.slot->channels == c_in && (appends || may_overwrite(map, first));
    if (!is_tip) map = add_concat({map}, shape(input(i)));
    map.slot->channels = std::max(map.slot->channels, first + known_.c_out(i));
    map.slot->room = std::max(map.slot->room, first + static_cast<int>(padded(known_.c_out(i))));
    return {map.slot, first, computed};
  }
  const bool over = shortcut.slot && shortcut.shape == computed && shortcut.channel == 0 &&
                    shortcut.slot->channels == computed.channels();
  return over && may_overwrite(shortcut, 0) ? shortcut : new_place(computed);
}

// What convolutions of bits have in common.
void Builder::set_up(UnitTask* task, int i) {
  const Sliding sliding = known_.sliding_of(i);
  const BitMap& map = *bits_[i];
  task->bits = bits_[i];
  task->stride = sliding.stride[0];
  task->extent = sliding.extent(0);
  task->out_rows = sliding.out[0];
  task->out_columns = sliding.out[1];
  task->bits_read = static_cast<int>(task->reads.size());
  task->reads.push_back(map.slot);
  task->whole.push_back(false);
  const auto read = [&](const Place& place, bool whole) {
    if (!place.slot) return;
    reads(task, place);
    task->whole.push_back(whole);
  };
  read(task->shortcut, false);
  read(task->gate, true);
  read(task->offset, true);
  spend(2 * sliding.pixels());  // and its classes
  task->groups = operation(i).whole("groups");
  task->conv.windows = sliding.windows(map.padded_width(), map.dwords, known_.group_dwords(i));
}

void Builder::add_terms(UnitTask* task, int i) {
  const Operation& op = operation(i);
  const Sliding sliding = known_.sliding_of(i);
  const BitMap& map = *bits_[i];
  BinaryConv& conv = task->conv;
  const int c_in = known_.group_in(i), outputs = conv.c_out, all = conv.padded_out();
  const int border = 1 + static_cast<int>(border_of(op, sliding));
  Classes classes = classes_of(sliding, map.height, map.width);
  const auto& samplings = op.fields.at("samplings").words;
  task->sampled.resize(samplings.size());
  for (size_t branch = 0; branch < samplings.size(); ++branch) {
    const int64_t dwords = int64_t{sliding.taps()} * known_.group_dwords(i);
    costs(task, 0, 32.0 * static_cast<double>(sliding.pixels()) * all * static_cast<double>(dwords));
    spend(int64_t{all} * (dwords + static_cast<int64_t>(classes.missing.size())));
    const int first = static_cast<int>(branch) * outputs;
    Plane plane = plane_of(op.constant("planes").words, first, outputs, sliding.taps(), c_in);
    Term term;
    term.acc_init.reserve(classes.missing.size() * static_cast<size_t>(all));
    for (const std::vector<int>& taps : classes.missing)
      for (int row = 0; row < all; ++row)  // a border bit counts as -1
        term.acc_init.push_back(static_cast<int32_t>(int64_t{sliding.taps()} * c_in + border * plane.sum(row, taps)));
    term.scale = scales_of(op.constant("scale"), first, outputs);
    if (samplings.size() == 1 && (sliding.before[0] || sliding.behind[0]))
      skip_padding(conv, sliding, plane, map.height, c_in);
    Pair pair;
    pair.panels = static_cast<int>(branch);
    pair.shift = 1;
    term.pairs.push_back(pair);
    conv.panels.push_back(std::move(plane.panels));
    if (samplings[branch] != "none") {
      spend(4 * sliding.pixels());
      task->sampled[branch] = samples(map.height, map.width, map.dwords, samplings[branch] == "long-range");
      term.sampled_at = task->sampled[branch].data();
    }
    conv.terms.push_back(std::move(term));
  }
  conv.classes = std::move(classes.of_pixel);
}

void Builder::emit_low_bit(int i) {
  begin_bits(i);
  const std::vector<int> values = known_.level_values(i);
  const int planes = known_.levels_of(i)->planes;
  for (size_t k = 0; k < values.size(); ++k) add_levels(i, values[k], static_cast<int>(k) * planes);
  UnitTask* const task = add<UnitTask>(shape(i + 1).height());
  task->conv.c_out = shape(i + 1).channels();
  set_up(task, i);
  add_low_bit_terms(task, i);
  gives_value(task, i);
}

// Bits of a value's levels from one plane on: from what they are made of, if that is possible.
void Builder::add_levels(int i, int value, int plane) {
  const auto [signs, planes] = *known_.levels_of(i);
  const int maker = value - 1;
  const bool direct = known_.gives_bits(maker);
  BitsTask* const task = add_bits(i, place(direct ? input(maker) : value), plane, 0);
  const int channels = task->from.shape.channels(), all = round_up(channels, 32);
  if (direct && operation(maker).kind == "quantize") {
    const Operation& op = operation(maker);
    const float offset = static_cast<float>(op.whole("offset"));
    task->levels.push_back(
        {true, op.whole("divide") != 0, op.real("low"), op.real("high"), op.real("step"), offset, planes});
  } else if (direct && operation(maker).kind == "encode") {
    task->sums.push_back(sum_bits(operation(maker).constant("basis")));
  } else if (direct) {
    task->threshold = filled(operation(maker).constant("threshold"), channels, all, INFINITY);
    if (operation(maker).has("falls")) task->falls = falling(operation(maker).constant("falls"), channels);
  } else if (signs) {
    task->threshold = Floats(all, 0.0f);
  } else {
    task->levels.push_back({false, false, 0, 0, 1, 0, planes});
  }
}

// A term of each basis of activations and of weights; all pairs with a plane of weights share its panels.
void Builder::add_low_bit_terms(UnitTask* task, int i) {
  const Operation& op = operation(i);
  const Sliding sliding = known_.sliding_of(i);
  const BitMap& map = *bits_[i];
  BinaryConv& conv = task->conv;
  const Constant &words = op.constant("planes"), &factors = op.constant("a_scale");
  const auto [signs, planes] = *known_.levels_of(i);
  const int w_bits = words.shape.sizes[0], w_bases = op.whole("w_bases"), all = conv.padded_out();
  const int64_t plane_words = words.count() / w_bits, dwords = sliding.taps() * int64_t{map.dwords};
  Classes classes = classes_of(sliding, map.height, map.width);
  if (!signs) classes = {{}, {{}}};  // a level of 0 adds nothing
  const double each = 32.0 * static_cast<double>(sliding.pixels()) * all * static_cast<double>(dwords);
  costs(task, 0, each * w_bits * planes * w_bases * static_cast<double>(factors.count()));
  spend(int64_t{all} * w_bases * (w_bits * dwords + factors.count() * static_cast<int64_t>(classes.missing.size())));
  for (int basis = 0; basis < w_bases; ++basis) {
    std::vector<Plane> weights;
    for (int j = 0; j < w_bits; ++j)
      weights.push_back(plane_of(words.words + j * plane_words, basis * conv.c_out, conv.c_out, sliding.taps(),
                                 shape(input(i)).channels()));
    Term term = low_bit_term(i, weights, classes, basis * w_bits);
    term.scale = scales_of(op.constant("scale"), basis * conv.c_out, conv.c_out);
    conv.terms.push_back(std::move(term));
    for (Plane& plane : weights) conv.panels.push_back(std::move(plane.panels));
  }
  for (int k = 1; k < factors.count(); ++k)  // the same weights on the planes of the next basis of activations
    for (int basis = 0; basis < w_bases; ++basis) {
      conv.terms.push_back(conv.terms[basis]);
      for (Pair& pair : conv.terms.back().pairs) pair.bits_at += int64_t{k} * planes * map.plane_dwords();
    }
  conv.classes = std::move(classes.of_pixel);
  conv.factors.assign(factors.floats, factors.floats + factors.count());
}

// The pairs of a basis of weights with the planes of the first basis of activations.
Term Builder::low_bit_term(int i, const std::vector<Plane>& planes, const Classes& classes, int first_panels) {
  const Levels levels = *known_.levels_of(i);
  const Sliding sliding = known_.sliding_of(i);
  const int all = planes[0].padded_rows, border = 1 + static_cast<int>(border_of(operation(i), sliding));
  const int64_t inside = int64_t{sliding.taps()} * shape(input(i)).channels();
  std::vector<int> every(sliding.taps());
  std::iota(every.begin(), every.end(), 0);
  Term term;
  term.acc_init.assign(classes.missing.size() * all, 0);
  for (int j = 0; j < static_cast<int>(planes.size()); ++j)
    for (int p = 0; p < levels.planes; ++p) {
      Pair pair;
      pair.bits_at = p * bits_[i]->plane_dwords();
      pair.panels = first_panels + j;
      pair.shift = levels.signs ? j + 1 : j + p;
      term.pairs.push_back(pair);
      for (size_t one = 0; one < classes.missing.size(); ++one)
        for (int row = 0; row < all; ++row) {
          const int64_t sum = levels.signs
                                  ? (inside + border * planes[j].sum(row, classes.missing[one])) * (int64_t{1} << j)
                                  : (inside + planes[j].sum(row, every)) / 2 * (int64_t{1} << (j + p));
          term.acc_init[one * all + row] += static_cast<int32_t>(sum);
        }
    }
  return term;
}

}  // namespace bcdzoo
