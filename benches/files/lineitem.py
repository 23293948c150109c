#!/usr/bin/env python3
"""Writes a lineitem-like CSV file: ROWS rows of 16 columns, about 125 bytes each. Seeded, so that it is the same everywhere."""
import random
import sys


def main():
    rows, path = int(sys.argv[1]), sys.argv[2]
    random.seed(42)
    words = "carefully final deposits sleep furiously ironic accounts quickly bold requests haggle slyly regular theodolites".split()
    modes = ["AIR", "RAIL", "TRUCK", "MAIL", "FOB", "REG AIR", "SHIP"]
    instructions = ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]
    names = "orderkey partkey suppkey linenumber quantity extendedprice discount tax returnflag linestatus shipdate commitdate receiptdate"
    with open(path, "w", newline="") as out:
        out.write(",".join("l_" + name for name in names.split()) + ",l_shipinstruct,l_shipmode,l_comment\n")
        block = []
        for row in range(rows):
            r = random.random()
            n = int(r * 2**40)
            day = f"199{n % 8}-{n % 12 + 1:02}-{n % 28 + 1:02}"
            comment = " ".join(words[(n >> shift) % len(words)] for shift in (3, 7, 11, 15)[: n % 4 + 1])
            comment = f'"{comment}, again"' if n % 10 == 0 else comment
            block.append(
                f"{row // 4 + 1},{n % 200000},{n % 10000},{row % 4 + 1},{n % 50 + 1}.00,{n % 9000000 / 100:.2f},0.0{n % 9},0.0{n % 8},"
                f"{'NRA'[n % 3]},{'OF'[n % 2]},{day},{day},{day},{instructions[n % 4]},{modes[n % 7]},{comment}\n"
            )
            if len(block) == 10000:
                out.write("".join(block))
                block.clear()
        out.write("".join(block))


main()
