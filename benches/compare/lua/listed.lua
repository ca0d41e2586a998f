-- The targets of a file, one a line, in an order drawn with a fixed seed: listed.lua FILE
dofile(os.getenv("COMPARE_LUA") .. "/report.lua")

local requests = {}

function init(arguments)
    for target in io.lines(arguments[1]) do
        requests[#requests + 1] = wrk.format("GET", target)
    end
    math.randomseed(7)
end

function request()
    return requests[math.random(#requests)]
end
