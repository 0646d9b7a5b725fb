/* A libcuda.so.1 of CUDA 12.2, for test_gpu_check.sh: CUDA's runtime refuses a driver that is older than itself. */
int cuDriverGetVersion(int *version);
int cuInit(unsigned flags);

int cuDriverGetVersion(int *version)
{
	*version = 12020;
	return 0;
}

int cuInit(unsigned flags)
{
	(void)flags;
	return 0;
}
