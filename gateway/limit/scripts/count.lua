-- Counts one event: all its counters, or none where one of them refuses.
-- KEYS: one hash for each counter, then the leases of the client, if asked.
-- ARGV: time in ms (0: the server's), how many counters, and for each of them
-- op, amount, limit, window in ms, ban in ms; then for the leases: the process,
-- its connections, the limit, the lease in ms.
-- Returns 0, or the number of the key that refuses.
-- Fields of a counter: b bucket, c count in it, p count in the one before,
-- u banned until. The sums are those of counter in window.go.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local n = tonumber(ARGV[2])

local function rate(c, window)
  local left = math.min(math.max(window - (now - c.b * window), 0), window)
  return c.c + c.p * left / window
end

local counters = {}
for i = 1, n do
  local a = 2 + (i - 1) * 5
  local c = { op = ARGV[a + 1], amount = tonumber(ARGV[a + 2]), limit = tonumber(ARGV[a + 3]),
    window = tonumber(ARGV[a + 4]), ban = tonumber(ARGV[a + 5]) }
  local f = redis.call('HMGET', KEYS[i], 'b', 'c', 'p', 'u')
  c.b, c.c, c.p, c.u = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0), tonumber(f[4] or 0)
  local b = math.floor(now / c.window)
  if b == c.b + 1 then
    c.b, c.p, c.c = b, c.c, 0
  elseif b > c.b then
    c.b, c.p, c.c = b, 0, 0
  end
  if c.u > now then
    if c.op ~= 'force' then return i end
  elseif c.limit > 0 then
    local r = rate(c, c.window)
    if c.op == 'add' and r + c.amount > c.limit then return i end
    if c.op == 'peek' and r >= c.limit then return i end
  end
  counters[i] = c
end

if #KEYS > n then
  local key, a = KEYS[n + 1], 2 + n * 5
  local process, mine, limit, lease = ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local total = mine
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] ~= process then
      local count, till = string.match(all[i + 1], '^(%d+):(%d+)$')
      if count and tonumber(till) > now then
        total = total + tonumber(count)
      else
        redis.call('HDEL', key, all[i]) -- a process that is no more
      end
    end
  end
  if limit > 0 and total > limit then return n + 1 end
  if mine > 0 then
    redis.call('HSET', key, process, string.format('%d:%.0f', mine, now + lease))
    redis.call('PEXPIRE', key, lease)
  else
    redis.call('HDEL', key, process)
  end
end

for i = 1, n do
  local c = counters[i]
  if c.op ~= 'peek' then
    c.c = c.c + c.amount
    local keep = 2 * c.window
    if c.op == 'force' and c.ban > 0 and c.limit > 0 and rate(c, c.window) >= c.limit then
      c.u = now + c.ban
    end
    if c.u > now then keep = math.max(keep, c.u - now) end
    redis.call('HSET', KEYS[i], 'b', string.format('%.0f', c.b), 'c', string.format('%.17g', c.c),
      'p', string.format('%.17g', c.p), 'u', string.format('%.0f', c.u))
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', keep))
  end
end
return 0
