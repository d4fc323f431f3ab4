-- Run by wrk, from `cargo xtask stress read --tool wrk`: asks for the paths of several classes, mixed by chance.
-- Arguments: a seed, then for each class a share of a hundred and a file of paths, one a line.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  math.randomseed(tonumber(args[1]) + number)
  classes = {}
  local stop = 0
  for index = 2, #args, 2 do
    stop = stop + tonumber(args[index])
    local requests = {}
    for path in io.lines(args[index + 1]) do
      requests[#requests + 1] = wrk.format("GET", path)
    end
    -- Each thread begins elsewhere, or all would ask for the same at once.
    local first = math.random(math.max(#requests, 1)) - 1
    classes[#classes + 1] = { stop = stop, requests = requests, next = first }
  end
  -- Counted for the end: wrk counts every 404 as an error, also where that is the right answer.
  asked_1, asked_2, asked_3 = 0, 0, 0
end

function request()
  local chance = math.random() * 100
  local index = 1
  while index < #classes and (chance >= classes[index].stop or #classes[index].requests == 0) do
    index = index + 1
  end
  if index == 1 then asked_1 = asked_1 + 1 elseif index == 2 then asked_2 = asked_2 + 1 else asked_3 = asked_3 + 1 end
  local class = classes[index]
  class.next = (class.next + 1) % #class.requests
  if index == 1 then
    return class.requests[math.random(#class.requests)]
  end
  return class.requests[class.next + 1]
end

function done(summary, latency, requests)
  local asked = { 0, 0, 0 }
  for _, thread in ipairs(threads) do
    for index = 1, 3 do
      asked[index] = asked[index] + thread:get("asked_" .. index)
    end
  end
  local curve = {}
  local step = 0
  while 10 ^ (step / 12) < summary.requests do
    local one_in = 10 ^ (step / 12)
    curve[#curve + 1] = string.format("[%.6f,%d]", one_in, latency:percentile(100 - 100 / one_in))
    step = step + 1
  end
  local percentiles = {}
  for _, percentile in ipairs({ "50", "75", "90", "95", "99", "99.9", "99.99" }) do
    percentiles[#percentiles + 1] = string.format('"%s":%d', percentile, latency:percentile(tonumber(percentile)))
  end
  local errors = summary.errors
  print(string.format(
    'RESULT {"duration_us":%d,"requests":%d,"bytes":%d,"asked":[%d,%d,%d],'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},'
      .. '"min_us":%d,"mean_us":%f,"stdev_us":%f,"max_us":%d,"percentiles_us":{%s},"curve_us":[%s]}',
    summary.duration, summary.requests, summary.bytes, asked[1], asked[2], asked[3],
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency.min, latency.mean, latency.stdev, latency.max,
    table.concat(percentiles, ","), table.concat(curve, ",")))
end
