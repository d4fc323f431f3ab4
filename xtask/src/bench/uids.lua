-- Run by wrk, from `cargo xtask bench`: asks for the orders of a file, one uid a line, one after another and round again.

function init(args)
  requests = {}
  for uid in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", "/api/v1/orders/" .. uid)
  end
  at = 0
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format("SEEN %d %d %d", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
