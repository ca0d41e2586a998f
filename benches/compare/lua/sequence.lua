-- Objects in the order of a file, each once, then no more: sequence.lua FILE FIRST COUNT END_FILE SIZES...
--
-- The file holds object numbers, four bytes each, little endian. An object's size is chosen by its number,
-- as in scenarios/zipf.py. wrk would go on until its time is up, so END_FILE appears when the last request was made.
dofile(os.getenv("COMPARE_LUA") .. "/report.lua")

local numbers, position, rest, end_file
local sizes = {}
local before, after


function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    file:seek("set", tonumber(arguments[2]) * 4)
    rest = tonumber(arguments[3])
    numbers = file:read(rest * 4)
    file:close()
    position = 1
    end_file = arguments[4]
    for argument = 5, #arguments do
        sizes[#sizes + 1] = arguments[argument]
    end
    local whole = wrk.format("GET", "/zipf/TARGET")
    local first, last = whole:find("TARGET", 1, true)
    before, after = whole:sub(1, first - 1), whole:sub(last + 1)
end

function request()
    if rest == 0 then
        if end_file then
            assert(io.open(end_file, "w")):close()
            end_file = nil
        end
        wrk.thread:stop()
        position = 1
    else
        rest = rest - 1
    end
    local a, b, c, d = numbers:byte(position, position + 3)
    position = position + 4
    local number = a + 256 * (b + 256 * (c + 256 * d))
    return before .. sizes[number % #sizes + 1] .. "/" .. number .. after
end
