/*
 * Owns a program that answers as an nginx whatever script/dist-test.sh has it answer: the file $FAKE/V for -V,
 * $FAKE/T for -T, $FAKE/t for -t, which then fails if there is text in it.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int tell(const char *name, FILE *to);


int
main(int argc, char **argv)
{
    if (argc < 2) {
        return 1;
    }

    if (strcmp(argv[1], "-V") == 0) {
        tell("V", stderr);
        return 0;
    }

    if (strcmp(argv[1], "-T") == 0) {
        tell("T", stdout);
        return 0;
    }

    return tell("t", stderr);
}


static int
tell(const char *name, FILE *to)
{
    int   c, n;
    char  path[4096];
    FILE *file;

    n = 0;
    snprintf(path, sizeof(path), "%s/%s", getenv("FAKE"), name);
    file = fopen(path, "r");

    while (file && (c = getc(file)) != EOF) {
        putc(c, to);
        n = 1;
    }

    return n;
}
