/* An NF that counts packets and lets one UDP port be found by nobody. Change it to yours. */
#include "weft_nf.h"

static uint64_t passed, dropped;
static unsigned hidden = 9; /* "weft nf command … hide PORT" changes it */

static int is_hidden(const struct weft_packet *p)
{
	const uint8_t *b = p->data;
	if (p->length < 14 + 20 || b[12] != 0x08 || b[13] != 0x00) /* IPv4 */
		return 0;
	const uint8_t *ip = b + 14;
	uint32_t head = (ip[0] & 15u) * 4;
	if (ip[9] != 17 || ((ip[6] & 0x1f) | ip[7]) || p->length < 14 + head + 8) /* UDP, the first fragment */
		return 0;
	return ((unsigned)ip[head + 2] << 8 | ip[head + 3]) == hidden;
}

static void handle(struct weft_packet *batch, int n, void *user)
{
	(void)user;
	for (int i = 0; i < n; i++) {
		if (is_hidden(&batch[i])) {
			dropped++;
			weft_drop(&batch[i]);
		} else {
			passed++;
			weft_next(&batch[i]);
		}
	}
}

static int command(int argc, char **argv, char *answer, size_t size, void *user)
{
	(void)user;
	if (argc != 2 || strcmp(argv[0], "hide")) {
		snprintf(answer, size, "say: hide PORT");
		return 1;
	}
	hidden = (unsigned)atoi(argv[1]);
	snprintf(answer, size, "UDP port %u is hidden now\n", hidden);
	return 0;
}

int main(void)
{
	weft_counter("passed", &passed);
	weft_counter("dropped", &dropped);
	return weft_run_commands(handle, command, NULL);
}
