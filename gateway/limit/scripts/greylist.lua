-- Asks the greylist for one triplet, and makes it known where it is new.
-- KEYS: the triplet, the client's count of mails.
-- ARGV: time in ms (0: the server's), delay, window, keep (all ms), mails after
-- which a client needs no greylisting.
-- Returns 0 to let the mail pass, or how many ms are left to wait.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local delay, window, keep, enough = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if tonumber(redis.call('GET', KEYS[2]) or 0) >= enough then return 0 end
local f = redis.call('HMGET', KEYS[1], 'first', 'passed')
local first = tonumber(f[1] or 0)
if f[2] then
  redis.call('PEXPIRE', KEYS[1], keep)
  return 0
end
if first == 0 or now - first > window then
  redis.call('HSET', KEYS[1], 'first', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], window)
  return delay
end
if now - first < delay then return delay - (now - first) end
redis.call('HSET', KEYS[1], 'passed', '1')
redis.call('PEXPIRE', KEYS[1], keep)
return 0
