-- Which differences from vmlinux keep types in modules?
--
-- Root causes over all modules of a kernel: the type whose own difference from vmlinux's keeps
-- types and bytes in modules after dedup. `splitbtf explain OUT` says what to change. Other bytes
-- are not counted here: what builds left and dedup removes (`splitbtf audit OUT`), and what modules
-- repeat because vmlinux lacks it (`splitbtf layers OUT`).
SELECT kernel,
       root_kind AS kind,
       root_name AS name,
       count(DISTINCT object_id) AS modules,
       sum(root_types) AS types,
       sum(root_bytes) AS bytes,
       difference
FROM misses
WHERE global_id = root_global_id AND root_bytes > 0
GROUP BY ALL
ORDER BY kernel, bytes DESC, kind, name, difference;
