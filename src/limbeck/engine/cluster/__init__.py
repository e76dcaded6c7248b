"""What `engine.ray` is made of: shards and their log, the tasks of the machines, and the till that keeps their money.

| file        | holds                                                                              |
|-------------|------------------------------------------------------------------------------------|
| `shards`    | how rows are cut, what a finished shard says of itself, what makes it still valid  |
| `store`     | a folder or an address of a bucket, behind the same four calls                     |
| `log`       | what a shard has bought, line by line, so that a lost machine costs no answer      |
| `tasks`     | what runs on a machine: one shard through a chain, or a bucket of a whole step     |
| `buckets`   | rows of a whole step, brought together by their keys and taken apart again         |
| `till`      | the one actor that grants money and places to all machines                         |
| `client`    | a machine's side of the till; `lease` and `claims` are its ledger and its requests |
| `merge`     | finished shards, written in the order of the rows; `mirror` copies them to a bucket |
| `machines`  | joining or starting a cluster; `overview` is what is seen of it                    |
"""
