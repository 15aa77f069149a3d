-- How much BTF do the modules of each subsystem keep?
--
-- By the folder of a module below lib/modules/RELEASE/kernel: drivers/net, fs, sound. Empty where
-- the sources do not tell, as for raw BTF files.
SELECT kernel,
       subsystem(source) AS subsystem,
       count(*) AS modules,
       sum(input_bytes) AS bytes_before,
       sum(bytes_out) AS bytes_after,
       sum(types_out) AS types_after,
       round(100 * sum(bytes_out) / sum(sum(bytes_out)) OVER (PARTITION BY kernel), 1) AS percent
FROM modules
WHERE status = 'done'
GROUP BY kernel, subsystem
ORDER BY kernel, bytes_after DESC, subsystem;
