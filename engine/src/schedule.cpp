#include "schedule.h"

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_map>

namespace bcdzoo {
namespace {

// Maps of more than this leave the second cache before they are read again: tasks on them run band by band.
constexpr int64_t kLargeMap = 512 << 10;
constexpr int64_t kBandBytes = 256 << 10;
constexpr int64_t kRatio = 8;  // of the largest to the smallest map of bands: of fewer rows they get too thin
constexpr int64_t kLightBytes = 16 << 10;  // of a band of tasks that are light

bool is_large(const Task& task) { return task.by_rows && task.row_bytes * task.rows > kLargeMap; }

// Tasks [begin, end) that run band by band, or one task.
struct Segment {
  int begin, end;
  int64_t band_bytes;  // of the largest map's rows in a band
};

// For each task, the first one from it on that is not `first`: those belong to any segment.
std::vector<int> skip_first(const Program& program) {
  std::vector<int> next(program.tasks.size() + 1, static_cast<int>(program.tasks.size()));
  for (int i = static_cast<int>(program.tasks.size()) - 1; i >= 0; --i)
    next[i] = program.tasks[i]->first ? next[i + 1] : i;
  return next;
}

// Where tasks on large maps of about the same size end that begin with one; itself if there are none.
int large_end(const Program& program, const std::vector<int>& next, int begin) {
  int end = begin;
  int64_t largest = 0;
  for (int i = next[begin]; i < static_cast<int>(program.tasks.size()); i = next[i + 1]) {
    const Task& task = *program.tasks[i];
    const int64_t bytes = task.row_bytes * task.rows;
    if (!is_large(task) || bytes * kRatio < largest) break;
    largest = std::max(largest, bytes);
    end = i + 1;
  }
  return end;
}

int light_end(const Program& program, int begin) {
  const auto& tasks = program.tasks;
  int end = begin;
  while (end < static_cast<int>(tasks.size()) && tasks[end]->is_light && tasks[end]->rows == tasks[begin]->rows) ++end;
  return end;
}

std::vector<Segment> segments_of(const Program& program) {
  std::vector<Segment> found;
  const std::vector<int> next = skip_first(program);
  for (int begin = 0; begin < static_cast<int>(program.tasks.size());) {
    const int large = large_end(program, next, begin), light = light_end(program, begin);
    const bool is_banded = large > begin + 1 || is_large(*program.tasks[begin]);
    const int64_t whole = std::numeric_limits<int64_t>::max();
    const int end = std::max({begin + 1, large, light});
    found.push_back({begin, end, is_banded ? kBandBytes : light > begin ? kLightBytes : whole});
    begin = end;
  }
  return found;
}

// Divides a segment into bands: in each one every task does its share of its rows, and before that what others need.
class Bands {
 public:
  Bands(const Program& program, Segment segment)
      : program_(program), segment_(segment), rules_(segment.end - segment.begin), done_(segment.end - segment.begin) {
    find_rules();
  }

  // The steps of a segment, in their sequence.
  std::vector<Step> steps() {
    int64_t largest = 0;
    std::vector<Step> found;
    for (int i = segment_.begin; i < segment_.end; ++i) {
      largest = std::max(largest, task(i).row_bytes * task(i).rows);
      if (task(i).first) add(found, i, task(i).rows);
    }
    const int bands = static_cast<int>(std::max<int64_t>(1, largest / segment_.band_bytes + 1));
    for (int band = 1; band <= bands; ++band) {
      const std::vector<int> needed = rows_for(band, bands);
      for (int i = segment_.begin; i < segment_.end; ++i) add(found, i, needed[i - segment_.begin]);
    }
    return found;
  }

 private:
  // Why an earlier task must have done some rows before a later one may do its own: it writes what that reads; it reads
  // what that overwrites; it writes other channels of the same rows. Of these, only the last writer of a slot and its
  // readers since then are kept: the writer's own rules lead to those before. So there are no more rules than
  // reads and writes.
  enum class Why { kFeeds, kMustHaveRead, kWritesToo };
  struct Rule {
    Why why;
    int before, read;  // task; which of the reader's `reads` it is
  };

  const Task& task(int index) const { return *program_.tasks[index]; }

  void find_rules() {
    struct Past {
      int writer = -1;
      std::vector<Rule> reads;  // since then
    };
    std::unordered_map<const Slot*, Past> pasts;
    for (int i = segment_.begin; i < segment_.end; ++i) {
      std::vector<Rule>& rules = rules_[i - segment_.begin];
      for (int k = 0; k < static_cast<int>(task(i).reads.size()); ++k) {
        const int writer = pasts[task(i).reads[k]].writer;
        if (writer >= 0) rules.push_back({Why::kFeeds, writer, k});
      }
      for (const Slot* slot : task(i).writes) {
        Past& past = pasts[slot];
        if (past.writer >= 0) rules.push_back({Why::kWritesToo, past.writer, 0});
        rules.insert(rules.end(), past.reads.begin(), past.reads.end());
        past = {i, {}};
      }
      for (int k = 0; k < static_cast<int>(task(i).reads.size()); ++k)
        pasts[task(i).reads[k]].reads.push_back({Why::kMustHaveRead, i, k});
    }
  }

  void add(std::vector<Step>& steps, int index, int rows) {
    int& done = done_[index - segment_.begin];
    if (rows > done) steps.push_back({&task(index), std::exchange(done, rows), rows});
  }

  // How many rows of every task a band needs: its own share of each, and what the rules ask for those.
  std::vector<int> rows_for(int band, int bands) const {
    std::vector<int> needed = done_;
    const auto raise = [&](int index, int rows) {
      int& mine = needed[index - segment_.begin];
      mine = std::max(mine, std::min(rows, task(index).rows));
    };
    for (int i = segment_.end - 1; i >= segment_.begin; --i) {
      raise(i, static_cast<int>(int64_t{task(i).rows} * band / bands));
      const int rows = needed[i - segment_.begin];
      if (rows == 0) continue;
      for (const Rule& rule : rules_[i - segment_.begin])
        raise(rule.before, rule.why == Why::kFeeds          ? task(i).needs(rule.read, rows)
                           : rule.why == Why::kMustHaveRead ? task(rule.before).frees(rule.read, rows)
                                                            : rows);
    }
    return needed;
  }

  const Program& program_;
  const Segment segment_;
  std::vector<std::vector<Rule>> rules_;  // of the segment's tasks
  std::vector<int> done_;                 // likewise: rows
};

// How tasks use a map, and the one segment that they are in.
struct Use {
  struct Read {
    int task, read;
  };
  int segment = -1;
  bool can_be_ring = true;  // all tasks are of one segment and go row by row
  std::vector<int> writers;
  std::vector<Read> readers;
};

std::unordered_map<const Slot*, Use> uses_of(const Program& program, const std::vector<Segment>& segments) {
  std::unordered_map<const Slot*, Use> uses;
  for (int number = 0; number < static_cast<int>(segments.size()); ++number)
    for (int i = segments[number].begin; i < segments[number].end; ++i) {
      const Task& task = *program.tasks[i];
      const auto use_of = [&](const Slot* slot, bool fits) -> Use& {
        Use& use = uses[slot];
        if (use.segment < 0) use.segment = number;
        use.can_be_ring = use.can_be_ring && use.segment == number && task.by_rows && fits;
        return use;
      };
      for (int k = 0; k < static_cast<int>(task.reads.size()); ++k)
        use_of(task.reads[k], task.scale(k) >= 0).readers.push_back({i, k});
      for (const Slot* slot : task.writes) use_of(slot, true).writers.push_back(i);
    }
  return uses;
}

// Maps that a segment alone uses need room for a few rows at a time: they become rings, which stay in the cache.
class Rings {
 public:
  Rings(const Program& program, Segment segment, const std::vector<Step>& steps)
      : program_(program), segment_(segment), steps_(steps), steps_of_(segment.end - segment.begin) {
    std::unordered_map<const Task*, int> numbers;
    for (int i = segment.begin; i < segment.end; ++i) numbers[program.tasks[i].get()] = i - segment.begin;
    for (int at = 0; at < static_cast<int>(steps.size()); ++at) steps_of_[numbers[steps[at].task]].push_back(at);
  }

  // Makes a ring of a map, unless that would need as much room.
  void make(Slot& slot, const Use& use) const {
    int unit = 1;
    for (const auto& [reader, read] : use.readers) unit = std::max(unit, program_.tasks[reader]->scale(read));
    const int ring = round_up(most_rows(slot, use), unit == 1 ? 1 : 2 * unit);
    if (ring >= slot.rows || unit > 2) return;
    slot.ring = ring;
    slot.bytes = (slot.bytes / slot.rows * ring + kSlack + 63) / 64 * 64;  // the next slot is aligned, too
  }

  // The steps, divided where a ring begins again.
  std::vector<Step> divided() const {
    std::vector<Step> found;
    for (const Step& step : steps_)
      for (int begin = step.begin, end; begin < step.end; begin = end) {
        end = std::min(step.end, lap_end(*step.task, begin));
        found.push_back({step.task, begin, end});
      }
    return found;
  }

 private:
  // How many rows of a map are alive at most: from the lowest one that a reader still needs to the last one written.
  int most_rows(const Slot& slot, const Use& use) const {
    // steps in their sequence, each with the reader; or with -1 of a writer, which comes first
    std::vector<std::pair<int, int>> events;
    for (const int writer : use.writers)
      for (const int at : steps_of_[writer - segment_.begin]) events.emplace_back(at, -1);
    for (int reader = 0; reader < static_cast<int>(use.readers.size()); ++reader)
      for (const int at : steps_of_[use.readers[reader].task - segment_.begin]) events.emplace_back(at, reader);
    std::sort(events.begin(), events.end());
    std::vector<int> released(use.readers.size(), 0);  // rows from the top, by each reader
    std::multiset<int> all(released.begin(), released.end());
    int most = 0;
    for (const auto& [at, reader] : events) {
      const Step& step = steps_[at];
      if (reader < 0) {
        most = std::max(most, step.end - std::min(all.empty() ? slot.rows : *all.begin(), step.begin));
        continue;
      }
      all.erase(all.find(released[reader]));
      released[reader] = released_by(*step.task, use.readers[reader].read, step.end, released[reader], slot.rows);
      all.insert(released[reader]);
    }
    return most;
  }

  // Rows from the top of a slot that a task does not need any more when it has done some of its own; `before`: that it
  // had released with fewer.
  static int released_by(const Task& task, int read, int done, int before, int rows) {
    if (done >= task.rows) return rows;
    while (before < rows && task.frees(read, before + 1) <= done) ++before;
    return before;
  }

  // The first row of a task at which a ring of its begins again.
  static int lap_end(const Task& task, int begin) {
    int end = task.rows;
    const auto consider = [&](const Slot& slot, int scale) {
      if (slot.ring && scale > 0) end = std::min(end, (begin * scale / slot.ring + 1) * slot.ring / scale);
    };
    for (size_t k = 0; k < task.reads.size(); ++k) consider(*task.reads[k], task.scale(static_cast<int>(k)));
    for (const Slot* slot : task.writes) consider(*slot, 1);
    return end;
  }

  static constexpr int kSlack = 512;  // bytes: vectors may reach behind the last pixel
  const Program& program_;
  const Segment segment_;
  const std::vector<Step>& steps_;
  std::vector<std::vector<int>> steps_of_;  // of the segment's tasks: places in steps_
};

// Slots live from their first task to their last one, and all segments that these are in.
void find_lives(Program& program, const std::vector<Segment>& segments) {
  for (const Segment& segment : segments)
    for (int i = segment.begin; i < segment.end; ++i) {
      const Task& task = *program.tasks[i];
      for (const auto* slots : {&task.reads, &task.writes})
        for (Slot* slot : *slots) {
          if (slot->first < 0) slot->first = segment.begin;
          slot->last = std::max(slot->last, segment.end - 1);
        }
    }
}

// Gives every slot the lowest place that is free during its life, the largest slots first.
int64_t place(Program& program) {
  struct Placed {
    int64_t offset, end;
    int first, last;
  };
  std::vector<Slot*> order;
  for (Slot& slot : program.slots)
    if (slot.first >= 0) order.push_back(&slot);
  std::stable_sort(order.begin(), order.end(), [](const Slot* a, const Slot* b) { return a->bytes > b->bytes; });
  std::vector<Placed> placed;  // by offset
  int64_t end = 0;
  for (Slot* slot : order) {
    int64_t offset = 0;
    for (const Placed& other : placed) {
      if (other.first > slot->last || other.last < slot->first) continue;
      if (offset + slot->bytes <= other.offset) break;
      offset = std::max(offset, other.end);
    }
    slot->offset = offset;
    const Placed mine{offset, offset + slot->bytes, slot->first, slot->last};
    const auto is_lower = [](const Placed& a, const Placed& b) { return a.offset < b.offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), mine, is_lower), mine);
    end = std::max(end, mine.end);
  }
  return end;
}

}  // namespace

Schedule schedule(Program& program) {
  const std::vector<Segment> segments = segments_of(program);
  const auto uses = uses_of(program, segments);
  std::vector<std::vector<Slot*>> own(segments.size());  // maps that may become rings
  for (Slot& slot : program.slots) {
    const auto use = uses.find(&slot);
    if (slot.rows && use != uses.end() && use->second.can_be_ring && !use->second.writers.empty())
      own[use->second.segment].push_back(&slot);
  }
  Schedule made;
  for (size_t i = 0; i < segments.size(); ++i) {
    const std::vector<Step> whole = Bands(program, segments[i]).steps();
    const Rings rings(program, segments[i], whole);
    for (Slot* slot : own[i]) rings.make(*slot, uses.at(slot));
    const std::vector<Step> steps = rings.divided();
    made.steps.insert(made.steps.end(), steps.begin(), steps.end());
  }
  find_lives(program, segments);
  made.arena_bytes = place(program);
  require(made.arena_bytes <= kMostBytes, "an image would need too much memory");
  return made;
}

}  // namespace bcdzoo
