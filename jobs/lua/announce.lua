-- ARGV: now, queue, then tasks as JSON: [id, pool, owner, is_first]... Has them wait in their queue.
push(ARGV[2], cjson.decode(ARGV[3]), ARGV[1])
