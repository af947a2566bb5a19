-- The load, for wrk: one request for each of many users.
--
--   wrk ... -s load.lua URL -- MODE FIRST COUNT SEED [HEADERS]
--
-- MODE "known" asks for one of COUNT users from number FIRST on, at random;
-- "fresh" for one after the other, each once; "get" sends GET. HEADERS are
-- lines to add; "basic" before them adds one that names the user. "any" and
-- "each" send GET with a line of the file HEADERS: one of COUNT from number
-- FIRST on at random, or one after the other. A line with tabs is POST: its
-- headers, and a JSON object as body. The last line of the output is a JSON
-- object.

local format = string.format
local random = math.random
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    .. "0123456789+/"

-- base64 of text; three bytes at a time, so that pieces can be joined
local function base64(text)
    local out = {}
    for at = 1, #text, 3 do
        local a, b, c = text:byte(at, at + 2)
        local bits = a * 65536 + (b or 0) * 256 + (c or 0)
        for shift = 3, 0, -1 do
            local digit = math.floor(bits / 64 ^ shift) % 64 + 1
            out[#out + 1] = alphabet:sub(digit, digit)
        end
        if not c then out[#out] = "=" end
        if not b then out[#out - 1] = "=" end
    end
    return table.concat(out)
end

-- digits in groups of three, as text and in base64
local plain, coded = {}, {}

local mode, first, count, head, basic, behind
local serial = 0
local whole -- requests of "any" and "each"

local function get(lines)
    return format("GET %s HTTP/1.1\r\nHost: %s:%s\r\n%s\r\n", wrk.path,
        wrk.host, wrk.port, lines)
end

-- As Supabase calls a hook.
local function post(line)
    local at = line:find("\t{", 1, true)
    local headers, body = line:sub(1, at - 1), line:sub(at + 1)
    return format("POST %s HTTP/1.1\r\nHost: %s:%s\r\n" ..
        "User-Agent: Go-http-client/1.1\r\nContent-Length: %d\r\n" ..
        "Accept-Encoding: identity\r\nContent-Type: application/json\r\n" ..
        "%s\r\n\r\n%s", wrk.path, wrk.host, wrk.port, #body,
        (headers:gsub("\t", "\r\n")), body)
end

local function read_lines(file)
    local number = 0
    whole = {}
    for line in io.lines(file) do
        if number >= first and number < first + count then
            whole[#whole + 1] = line:find("\t", 1, true) and post(line)
                or get(line .. "\r\n")
        end
        number = number + 1
    end
    if #whole < count then error(file .. " has too few lines") end
end

function init(args)
    local headers
    mode, first, count = args[1], tonumber(args[2]), tonumber(args[3])
    math.randomseed(tonumber(args[4]))
    headers = args[5] or ""
    basic = headers:sub(1, 5) == "basic"
    if basic then headers = headers:sub(6) end
    for n = 0, 999 do
        plain[n] = format("%03d", n)
        coded[n] = base64(plain[n])
    end
    local path = wrk.path
    if mode == "get" then
        head = get(headers)
        return
    elseif mode == "any" or mode == "each" then
        return read_lines(headers)
    end
    behind = '@example.com","password":"correct horse battery"}'
    local length = #'{"email":"bench-000000000' + #behind
    head = format("POST %s HTTP/1.1\r\nHost: %s:%s\r\n" ..
        "Content-Type: application/json\r\nAccept: application/json\r\n" ..
        "User-Agent: bench/1.0\r\nContent-Length: %d\r\n%s", path, wrk.host,
        wrk.port, length, headers)
    if basic then
        head = head .. "Authorization: Basic " .. base64("bench-")
    else
        head = head .. '\r\n{"email":"bench-'
    end
end

local suffix = base64("@example.com:x")

function request()
    local n
    if mode == "any" then
        return whole[random(count)]
    elseif mode == "each" then
        serial = serial % count + 1
        return whole[serial]
    elseif mode == "known" then
        n = first + random(0, count - 1)
    elseif mode == "fresh" then
        n = first + serial
        serial = serial + 1
    else
        return head
    end
    local a, b, c = math.floor(n / 1000000), math.floor(n / 1000) % 1000,
        n % 1000
    if basic then
        return head .. coded[a] .. coded[b] .. coded[c] .. suffix ..
            '\r\n\r\n{"email":"bench-' .. plain[a] .. plain[b] .. plain[c] ..
            behind
    end
    return head .. plain[a] .. plain[b] .. plain[c] .. behind
end

function done(summary, latency)
    local e = summary.errors
    io.write(format('\n{"requests":%d,"seconds":%.6f,"status":%d,' ..
        '"connect":%d,"read":%d,"write":%d,"timeout":%d,"p50":%.3f,' ..
        '"p99":%.3f,"max":%.3f}\n', summary.requests,
        summary.duration / 1e6, e.status, e.connect, e.read, e.write,
        e.timeout, latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3, latency.max / 1e3))
end
